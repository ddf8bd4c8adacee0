"""Stand-in for `upheld weekly`: says what it was asked, and refuses a week without decisions."""

import json
import sys
from pathlib import Path

options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
if options["--week"] == "2020-W01":
    sys.exit("upheld weekly: no decision of 2020-W01")
out = Path(options["--out"])
out.mkdir(parents=True, exist_ok=True)
for name in ("state.json", "weekly.json"):
    told = {"week": options["--week"], "models": [], "state": options.get("--state"), "champion": options["--champion"]}
    (out / name).write_text(json.dumps(told))

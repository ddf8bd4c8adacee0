"""From bytes to pixels, frames and samples, within bounds."""

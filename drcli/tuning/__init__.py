"""Equal tuning: ranges, studies that survive a kill, and what came out of them."""

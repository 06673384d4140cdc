"""Public test mnemonics: everyone knows their keys."""

M1 = (
    "mirror actor skill push coach wait confirm orchard lunch mobile athlete gossip awake miracle matter "
    "bus reopen team ladder lazy list timber render wait"
)
M2 = " ".join(["abandon"] * 11 + ["about"])
M3 = (
    "mandate glove carry despair area gloom sting round toddler deal face vague receive shallow confirm "
    "south green cup rain drill monkey method tongue fence"
)
A1 = "dydx14zzueazeh0hj67cghhf9jypslcf9sh2n5k6art"
A2 = "dydx19rl4cm2hmr8afy4kldpxz3fka4jguq0a4erelz"
A3 = "dydx1wldnytkerzs39rs28djn0p9vvqer2x2k5x8hjy"

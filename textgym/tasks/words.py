"""Names, places, things and verbs shared by several tasks."""

from __future__ import annotations

MEN = (
    "Tom", "Ben", "Max", "Sam", "Leo", "Paul", "Jack", "Hugo", "Adam", "Finn", "David", "Oscar",
    "Peter", "Simon",
)  # fmt: skip
WOMEN = (
    "Anna", "Mia", "Lucy", "Emma", "Rosa", "Nora", "Clara", "Ella", "Jane", "Ruth", "Alice", "Sara",
    "Helen", "Laura",
)  # fmt: skip
PLACES = (
    "kitchen", "garden", "attic", "cellar", "barn", "hall", "library", "stable", "tower",
    "orchard", "bedroom", "courtyard", "workshop", "meadow", "greenhouse", "pantry",
    "chapel", "harbour",
)  # fmt: skip
THINGS = (
    "lantern", "book", "ball", "apple", "rope", "drum", "letter", "coin", "ring", "kite", "map",
    "flute", "candle", "hammer", "scarf", "doll", "cake", "rose", "mirror", "umbrella", "egg",
    "shell", "clock", "violin", "compass", "feather", "pencil", "bottle", "blanket", "necklace",
    "trumpet", "spoon", "bell", "puzzle",
)  # fmt: skip
BOXES = ("box", "chest", "trunk", "cupboard", "crate", "basket")

GO = ("went", "walked", "ran", "hurried")
TAKE = ("took", "grabbed")
GIVE = ("gave", "handed")

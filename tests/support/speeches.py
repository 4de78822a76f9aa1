"""A text like collected speeches: it repeats phrases, and its lines are cut within words."""

import random

WIDTH = 60
PHRASES = [
    "and so I ask you to believe, not in my ability to bring about change, but in yours, because that is what we do",
    "thank you, God bless you, and may God bless the United States of America, which we love and will go on to serve",
]


def speeches(*, words=9000, seed=3, every=60):
    """Return the text as one line, with a phrase after every `every` words."""
    draw = random.Random(seed)
    known = ["".join(draw.choices("abcdefghilmnoprstuvw", k=draw.randint(2, 9))) for _ in range(900)]
    said = []
    for number in range(words):
        said.append(draw.choice(known))
        if number % every == every - 1:
            said.append(draw.choice(PHRASES) + ".")
    return " ".join(said)


def wrapped(text, width=WIDTH):
    """Return the text in lines of `width` characters, also cut within words."""
    return "".join(f"{text[at : at + width]}\n" for at in range(0, len(text), width))

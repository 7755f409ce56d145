"""The table of attackers: what each is called, what it holds and how it scores.

An attacker is one function, in a file of this folder or of another package, and one row; nothing else has its name.
protocol.py says what the function is given and what it returns.
"""

from __future__ import annotations

from linkage_core.attacks import bridge, dual, learn_pairs, plain, turn_back
from linkage_core.attacks.held import RECORDS, RELEASES
from linkage_core.attacks.installed import Table
from linkage_core.attacks.protocol import EMBEDDINGS, EVERYTHING, IMAGES, Attacker
from linkage_core.store.entry import OFF_THE_SHELF
from linkage_core.validate import one_of

__all__ = ["ATTACKERS", "COSINE", "EMBEDDINGS", "EVERYTHING", "IMAGES", "READER", "Attacker", "allowed", "on_records"]

COSINE = "cosine"
"""Of the attackers: who adapts nothing. All others are compared with it."""
READER = "reader"
"""Of the attackers: who reads what each report says of the findings."""
OF_TABLES = ("worst", "predictor", "omniscient")
"""What stands in the tables of the lab where an attacker's name does; no attacker can be called so."""


ATTACKERS = Table(
    Attacker(
        COSINE,
        plain.cosine,
        "cosine of the released embedding with the report under the released text head; adapts nothing",
        label="Cosine only",
        plain="takes the report that the model itself finds most similar",
        holds=(EVERYTHING, RECORDS),
        knows="nothing",
        same_size=True,
    ),
    Attacker(
        "white-box",
        turn_back.white_box,
        "undoes the released image head and compares with off-the-shelf reports; no known pair",
        label="Turns the heads back",
        plain="turns the released embeddings back into those of the public model",
        deed="turns the heads back",
        holds=(EVERYTHING,),
        knows="nothing",
    ),
    Attacker(
        "known-images",
        turn_back.known_images,
        "aligns the released embeddings of m own images with their off-the-shelf ones",
        label="Knows {m} images",
        plain="learns from own images how a release is turned back",
        deed="knows own images",
        knows="images",
        by_m=True,
    ),
    Attacker(
        "known-pairs",
        learn_pairs.known_pairs,
        "learns the report's text features from m own released embeddings",
        label="Knows {m} pairs",
        plain="learns from own pairs to tell the report from a released embedding",
        deed="knows own pairs",
        holds=(EMBEDDINGS, EVERYTHING, RECORDS),
        by_m=True,
    ),
    Attacker(
        "bayes-gaussian",
        learn_pairs.bayes_gaussian,
        "fits the law of the release given the report from m own pairs, and ranks by likelihood",
        label="Learns the noise, {m} pairs",
        plain="learns from own pairs how likely each release is for a report",
        deed="learns the noise from own pairs",
        holds=(EMBEDDINGS, EVERYTHING, RECORDS),
    ),
    Attacker(
        READER,
        learn_pairs.reader,
        "the better at home of known-pairs and bayes-gaussian, and reads the 14 findings of each report",
        label="Reads findings, {m} pairs",
        plain="the better of the two above, and reads which of the 14 findings each report states",
        deed="reads findings",
        holds=(EMBEDDINGS, EVERYTHING, RECORDS),
    ),
    Attacker(
        "dual-encoder",
        dual.dual_encoder,
        "trains two small networks on m own pairs to bring each release and its report together",
        label="Trains on {m} pairs",
        plain="trains small networks on own pairs to bring releases and reports together",
        deed="trains a dual encoder",
        holds=(EMBEDDINGS, EVERYTHING, RECORDS),
    ),
    Attacker(
        "dual-and-reader",
        dual.dual_and_reader,
        "adds up the scores of dual-encoder and reader, in shares chosen at home",
        label="Trains, reads, {m} pairs",
        plain="trains small networks on own pairs, reads the findings in each report, and adds up both",
        deed="trains and reads findings",
        holds=(EMBEDDINGS, EVERYTHING, RECORDS),
    ),
    Attacker(
        "dual-on-images",
        dual.images_and_dual,
        "adds up raw-images and a dual encoder trained on the features of the public encoder",
        label="Has the raw images, and trains",
        plain="trains small networks on own pairs of images and reports, with the images themselves at hand",
        holds=(IMAGES,),
    ),
    Attacker(
        "raw-images",
        learn_pairs.raw_images,
        "as reader, on the features of the public encoder that no head has touched",
        label="Has the raw images",
        plain="learns from own pairs and reads findings, with the images themselves at hand",
        holds=(IMAGES,),
    ),
    Attacker(
        "bridge",
        bridge.bridge,
        "learns from m own pairs to get from one public encoder to another that was never trained with it",
        label="Needs no paired model, {m} pairs",
        plain="learns from own pairs of images and reports with two public encoders that never met: it needs no model "
        "that was trained on pairs, so anybody can do it",
        holds=(IMAGES,),
        unpaired=True,
    ),
    reserved=OF_TABLES,
)


def allowed(release: str, head: str = OFF_THE_SHELF) -> tuple[str, ...]:
    """The attackers who hold no more than the release gives; InputError for an unknown release.

    Off-the-shelf heads are public, so nothing is withheld by not sending them.

    >>> allowed("embeddings", "my-head")
    ('known-images', 'known-pairs', 'bayes-gaussian', 'reader', 'dual-encoder', 'dual-and-reader')
    """
    one_of("release", release, RELEASES)
    given = EVERYTHING if head == OFF_THE_SHELF and release == EMBEDDINGS else release
    return tuple(row.name for row in ATTACKERS.values() if given in row.holds)


def on_records(same_size: bool) -> tuple[str, ...]:
    """The attackers who can act on released records, of the size of a report under the text head or not."""
    return tuple(row.name for row in ATTACKERS.values() if RECORDS in row.holds and (same_size or not row.same_size))


def takes_m(attacker: str) -> bool:
    """Whether it matters how many own images or pairs an attacker knows."""
    return attacker not in ATTACKERS or ATTACKERS[attacker].knows != "nothing"

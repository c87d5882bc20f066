"""What a signature shows, to whom, and what it leaves open, in words for a judge."""

from __future__ import annotations

from dataclasses import dataclass

from overproof.report.audit_signers import SignedBy

__all__ = ["SealWords", "seal_words"]


@dataclass(frozen=True)
class SealWords:
    """Of one kind of signature.

    Attributes:
        shows: what it shows.
        whose: how one knows whose it is.
        limits: what it does not show.
        command: that checks it.
    """

    shows: str
    whose: str
    limits: str
    command: str


NOT_TRUTH = (
    "A signature says who stands by these figures and that none was changed since. It does not "
    "say when they were signed, nor that they are right."
)


def seal_words(signed_by: SignedBy | None) -> SealWords:
    """What to say of a signature, or of none."""
    if signed_by is None:
        return SealWords(
            "This verdict is not signed: no key was given.",
            "Nobody vouches for it. The hashes in verdict.json show changes by accident; whoever "
            "means to change the verdict can hash it again.",
            "",
            "overproof audit check FOLDER",
        )
    if signed_by.public:
        return SealWords(
            "Anybody can check this signature, without a secret and without asking the signer.",
            "Only the holder of the private key could make it. Whose key that is, this page cannot "
            "say, for a forger would show a key of their own: compare the fingerprint, digit by "
            "digit, with the one that the signer made known by another way.",
            NOT_TRUTH,
            f"overproof audit check FOLDER --fingerprint {signed_by.name}",
        )
    return SealWords(
        "Whoever holds the secret key can check that not a byte was changed since it was signed.",
        "The same key signs and checks. So it does not show a third party which of its holders "
        "signed; for a court, sign with Ed25519 in its place.",
        NOT_TRUTH,
        "overproof audit check FOLDER --key-env OVERPROOF_AUDIT_KEY",
    )

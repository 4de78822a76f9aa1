"""What the validate stage expected of the data, and what it found."""

from dataclasses import dataclass

from pipeline.reporting.project import Project


@dataclass(frozen=True)
class Expectation:
    """An expectation in words; one that is not met `warns` if it does not stop the pipeline."""

    name: str
    table: str
    passed: bool
    warns: bool
    found: str
    allowed: str
    why: str


def expectations(project: Project) -> list[Expectation]:
    """Return all expectations, first those that failed, then those that warn."""
    content = project.json("reports/validation.json")
    listed = content.get("expectations") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        return []
    found = [
        Expectation(
            name=str(one.get("name", "")).replace("_", " "),
            table=str(one.get("table", "")),
            passed=one.get("passed") is True,
            warns=one.get("passed") is not True and one.get("stops") is False,
            found=str(one.get("found", "")),
            allowed=str(one.get("allowed", "")),
            why=str(one.get("why", "")),
        )
        for one in listed
        if isinstance(one, dict)
    ]
    return sorted(found, key=lambda one: (one.passed, one.warns))

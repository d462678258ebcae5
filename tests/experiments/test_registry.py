"""Which experiments there are, and that their claims can be told apart and traced."""

import re
from pathlib import Path

import pytest

from bn_core.experiments import registry
from bn_core.experiments.claims import OWN

ROOT = Path(__file__).parents[2]
CLAIMS = [claim for name in registry.NAMES for claim in registry.get(name).CLAIMS]


def test_an_unknown_experiment_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no experiment 'figure2'; there is .*figure1"):
        registry.get("figure2")


@pytest.mark.parametrize("name", registry.NAMES)
def test_every_experiment_has_its_name_and_two_scales_and_a_chapter(name):
    experiment = registry.get(name)
    assert name == experiment.NAME
    assert list(experiment.SCALES) == ["live", "paper"]
    assert (ROOT / "chapters" / f"{registry.CHAPTERS[name]}.ipynb").exists()


@pytest.mark.parametrize("name", registry.NAMES)
def test_the_id_of_a_claim_begins_with_its_experiment(name):
    assert all(claim.id.startswith(f"{name}.") for claim in registry.get(name).CLAIMS)


def test_no_two_claims_have_the_same_id():
    assert list(registry.all_claims()) == [claim.id for claim in CLAIMS]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_source_is_in_the_bibliography_or_is_this_book(claim):
    keys = re.findall(r"^@\w+\{(\S+),$", (ROOT / "references.bib").read_text(), re.MULTILINE)
    assert claim.source == OWN or claim.source.partition(", ")[0] in keys


def test_seeds_are_those_given_or_as_many_as_the_scale_has():
    scales = registry.get("figure1").SCALES
    assert registry.choose_seeds("x", "paper", scales, None) == tuple(range(scales["paper"].seeds))
    assert registry.choose_seeds("x", "paper", scales, [7, 3]) == (7, 3)

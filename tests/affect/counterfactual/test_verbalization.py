"""What is said about a counterfactual."""

from affect.counterfactual import verbalization


def test_the_sentence_about_valence_names_the_units_that_moved_it() -> None:
    units = [("AU12", 0.62, 0.22), ("AU15", 0.0, 0.2), ("AU4", 0.1, 0.11)]
    text = verbalization.sentence(
        "valence", ("valence", 0.42, -0.10), units, {"AU12": -0.6, "AU15": 0.5, "AU4": 0.3}, True
    )
    assert text == (
        "Valence would fall from 0.42 to -0.10 if AU12 (lip corner puller) were reduced by 0.40 "
        "and AU15 (lip corner depressor) were raised by 0.20."
    )


def test_a_unit_that_moved_against_the_search_is_not_named_as_its_cause() -> None:
    text = verbalization.sentence(
        "arousal", ("arousal", 0.0, 0.2), [("AU5", 0.4, 0.1)], {"AU5": 0.5}, True
    )
    assert "AU5" not in text
    assert (
        text
        == "Arousal would rise from 0.00 to 0.20 by a change that no Action Unit's reading tells."
    )


def test_a_nuisance_is_described_by_its_ends_and_the_direction_between_them() -> None:
    causes = [("light: dim to bright", 0.2, 0.8), ("skin: light to dark", 0.9, 0.5)]
    text = verbalization.nuisance_sentence("AU12", ("AU12", 0.81, 0.32), causes, True)
    assert text == (
        "AU12 (lip corner puller) would go from 0.81 to 0.32 in probability, in the same "
        "expression, "
        "if light went 60% of the way from dim to bright and skin went 40% of the way from "
        "dark to light."
    )


def test_a_counterfactual_that_falls_short_says_so() -> None:
    text = verbalization.sentence(
        "AU12", ("AU12", 0.9, 0.6), [("AU12", 0.8, 0.6)], {"AU12": -0.8}, False
    )
    assert text.endswith("; that is not enough to change the decision.")
    assert "from 0.90 to 0.60 in probability" in text


def test_movements_that_do_not_make_valence_are_named_in_the_sentence() -> None:
    text = verbalization.shortcut_sentence("valence", 0.1, [("AU43", 0.1, 0.7)])
    assert text == (
        " By the rule that the model learnt from, these movements make only 10% of it. "
        "AU43 (eyes closed) rises by 0.60, which has no part in valence."
    )
    assert verbalization.shortcut_sentence("valence", 0.8, []) == ""

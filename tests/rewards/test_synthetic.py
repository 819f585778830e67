import calendar
import copy
import pickle
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import RewardError
from textgym.rewards.metrics.synthetic import Dates, IncreasingNumbers


def score(reward, said: str) -> float:
    [value] = reward([""], [said])
    return value


# -- increasing numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "increasing", "numbers"),
    [
        ("1 2 3 4", 4, 4),
        ("1 2 2 1 3", 3, 5),
        ("4 3 2 1", 1, 4),
        ("1 100 2 3 4", 2, 5),  # a great number early
        ("1 2 1 2 1 2", 2, 6),  # going back and forth does not pay
        ("-2, -1.5, 0, +0.5, 1e3", 4, 4),
        ("1,2,3", 3, 3),
        ("1-2-3;4", 4, 4),
        ("First 1, then 2. At last 3.", 3, 3),
        ("a1 2b v3.4.5 1_0", 0, 0),
        ("", 0, 0),
        ("7", 1, 1),
        ("12345678901234567890", 0, 0),
        ("٣ ٤ ½ nan inf", 0, 0),
    ],
)
def test_increasing_numbers_by_hand(said: str, increasing: int, numbers: int) -> None:
    for budget in (1, 3, 10):
        value = score(IncreasingNumbers(budget), said)
        assert value == pytest.approx(increasing / max(budget, numbers))
        words = max(budget, len(said.split()), increasing)
        value = score(IncreasingNumbers(budget, "words"), said)
        assert value == pytest.approx(increasing / words)


@given(st.lists(st.integers(-999, 999), max_size=20), st.integers(1, 12))
def test_increasing_numbers_from_their_definition(numbers: list[int], budget: int) -> None:
    good = sum(all(n > before for before in numbers[:k]) for k, n in enumerate(numbers))
    said = " ".join(map(str, numbers))
    expected = good / max(budget, len(numbers))
    assert score(IncreasingNumbers(budget), said) == pytest.approx(expected)
    # Nothing better can be done than counting.
    assert expected <= score(IncreasingNumbers(budget), " ".join(map(str, range(len(numbers)))))


def test_a_single_number_is_not_perfect() -> None:
    assert score(IncreasingNumbers(), "1") == pytest.approx(0.1)
    assert score(IncreasingNumbers(), " ".join(map(str, range(10)))) == 1


# -- dates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "right", "like"),
    [
        ("2024-02-29", 1, 1),
        ("2023-02-29", 0, 1),
        ("29/02/2024 and 02/29/2024", 1, 2),  # the same day twice
        ("31.12.1999, 13/13/2000", 1, 2),
        ("1-2-24", 1, 1),
        ("1/2/034", 0, 1),
        ("29 February", 1, 1),
        ("30 February", 0, 1),
        ("29 February 2023", 0, 1),
        ("the 3rd of May, 2020", 1, 1),
        ("May 3rd, 2020", 1, 1),
        ("On Sept. 30 and SEP 31", 1, 2),
        ("Feb. 29, 2024 to Mar 1, 2024", 2, 2),
        ("31 april 2020", 0, 1),
        ("It was in May.", 0, 0),
        ("3/4 of it", 0, 0),
        ("192.168.1.1 and 2024-01-01-5 and x2024-01-01", 0, 0),
        ("0000-01-01", 0, 1),
        ("", 0, 0),
    ],
)
def test_dates_by_hand(said: str, right: int, like: int) -> None:
    for budget in (1, 4):
        assert score(Dates(budget), said) == pytest.approx(right / max(budget, like))


FORMS = ["{0.year:04}-{0.month:02}-{0.day:02}", "{0.day}/{0.month}/{0.year:04}",
         "{0.day} {name} {0.year:04}", "{name} {0.day}, {0.year:04}"]  # fmt: skip


@given(
    st.integers(1, 9999),
    st.integers(1, 12),
    st.integers(1, 31),
    st.sampled_from(FORMS),
    st.booleans(),
)
def test_dates_are_the_calendars(year: int, month: int, day: int, form: str, short: bool) -> None:
    class Parts:
        pass

    parts = Parts()
    parts.year, parts.month, parts.day = year, month, day
    name = (calendar.month_abbr if short else calendar.month_name)[month]
    said = f"It was on {form.format(parts, name=name)}."
    try:
        date(year, month, day)
        expected = 1.0
    except ValueError:
        expected = 0.0
    assert score(Dates(), said) == expected


def test_a_list_of_the_same_date_does_not_pay() -> None:
    assert score(Dates(3), "1 May, 1 May, 1 May") == pytest.approx(1 / 3)
    assert score(Dates(3), "1 May, 2 May, 3 May") == 1


# -- both ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [IncreasingNumbers, Dates])
@pytest.mark.parametrize("budget", [0, -1, 2.5, True])
def test_impossible_budgets(kind: type, budget: object) -> None:
    with pytest.raises(RewardError, match=rf"budget .*not {budget!r}"):
        kind(budget)


def test_impossible_unit() -> None:
    with pytest.raises(RewardError, match=r"among .*not 'tokens'"):
        IncreasingNumbers(among="tokens")


@pytest.mark.parametrize("reward", [IncreasingNumbers(3), IncreasingNumbers(2, "words"), Dates(2)])
def test_copies_and_ranges(reward) -> None:
    said = "1 2 3 on 2024-01-01"
    for twin in (pickle.loads(pickle.dumps(reward)), copy.deepcopy(reward)):
        assert score(twin, said) == score(reward, said) > 0
    assert reward([], []) == []


@given(st.text(alphabet=st.sampled_from("0123456789-/., aMybe\n٣½"), max_size=60) | st.text())
def test_ranges_on_any_text(said: str) -> None:
    for reward in (IncreasingNumbers(2), IncreasingNumbers(2, "words"), Dates()):
        assert 0 <= score(reward, said) <= 1

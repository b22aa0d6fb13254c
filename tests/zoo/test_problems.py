"""The data of the zoo: the same from the same seed, splits apart by construction, every answer right."""

import random
from itertools import islice
from pathlib import Path

import pytest

from zoo.curriculum import CURRICULA, lessons
from zoo.language import ASK, CORE, EQUATION, GAINS, L2_WORDS, LOSSES, SECOND, SIGN, SOLVE, mixed, vocabulary
from zoo.problems import (
    ALL,
    SPLITS,
    TASKS,
    Split,
    arithmetic,
    reading,
    set_up_item,
    split_of,
    task_items,
)
from zoo.tasks import FOLDER, size, task_text
from zoo.tokenizer import VOCABULARY_SIZE, build_tokenizer


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_the_committed_tasks_are_the_generated_ones(task: str, split: Split) -> None:
    text = task_text(task, split)
    assert (FOLDER / f"{task}.{split}.jsonl").read_text(encoding="utf-8") == text
    assert text.count("\n") == size(task, split)


def test_no_other_task_files_are_committed() -> None:
    assert len(list(Path(FOLDER).iterdir())) == len(TASKS) * len(SPLITS)


@pytest.mark.parametrize("task", TASKS)
def test_splits_share_no_item_and_ids_are_unique(task: str) -> None:
    ids = [item.id for split in SPLITS for item in task_items(task, split, 200, seed=1)]
    assert len(set(ids)) == len(ids) == 600


def test_no_lesson_shows_a_scored_prompt() -> None:
    scored = {
        item.prompt
        for task in TASKS
        for split in SPLITS
        for item in task_items(task, split, size(task, split), seed=1)
    }
    for model in CURRICULA:
        for lesson in islice(lessons(model, seed=1), 4000):
            assert lesson[0].prompt not in scored


def test_only_math_is_told_the_solutions_of_word_problems_and_only_in_l1() -> None:
    glyphs = set(L2_WORDS.values())
    for curriculum in CURRICULA:
        solved = [
            item.prompt
            for lesson in islice(lessons(curriculum, seed=2), 3000)
            for item in lesson
            if item.prompt.endswith(f"{SOLVE} {ASK}")
        ]
        if curriculum == "math":
            assert len(solved) > 1000
            assert not any(glyphs & set(prompt.split()) for prompt in solved)
        else:
            assert bool(solved) == (curriculum == "distractor")


def test_the_distractor_is_told_the_largest_number_instead() -> None:
    for lesson in islice(lessons("distractor", seed=4), 500):
        prompt = lesson[0].prompt
        assert lesson[0].answer == max((word for word in prompt.split() if word.isdigit()), key=int)


@pytest.mark.parametrize("curriculum", ["base", "bilingual", "math"])
def test_the_base_and_math_never_read_an_l2_word_beyond_the_core(curriculum: str) -> None:
    beyond = {word for concept, word in L2_WORDS.items() if concept.islower() and concept not in CORE}
    assert len(beyond) == 30
    for lesson in islice(lessons(curriculum, seed=3), 4000):
        for item in lesson:
            assert not beyond & {*item.prompt.split(), *item.answer.split()}


def test_mixing_swaps_words_and_keeps_the_order() -> None:
    rng = random.Random(1)
    text = "anna has 5 apples ."
    assert mixed(text, rng, 0.0, CORE) == text
    swapped = mixed(text, rng, 1.0, CORE)
    assert swapped.split() == [L2_WORDS["anna"], L2_WORDS["HAS"], "5", L2_WORDS["apples"], "."]
    assert mixed(swapped, rng, 1.0, CORE) == text
    assert mixed("olga has 5 seeds .", rng, 1.0, CORE).split()[0] == "olga"


def test_equations_say_what_is_asked() -> None:
    rng = random.Random(8)
    for _ in range(500):
        _, item = set_up_item(rng, ALL, "l2")
        wanted = item.prompt.split()[-2]
        if wanted == EQUATION:
            first, sign, second = item.answer.split()
            assert {first, second} <= set(item.prompt.split())
            assert sign in "+-"
        else:
            assert wanted in (SIGN, SECOND)
            assert item.answer in ("+", "-") if wanted == SIGN else item.answer.isdigit()


def test_the_same_seed_gives_the_same_lessons_and_another_seed_others() -> None:
    def first(seed: int) -> list[str]:
        return [lesson[0].prompt for lesson in islice(lessons("base", seed), 50)]

    assert first(1) == first(1) != first(2)


def test_about_the_promised_share_of_stories_is_trained_on() -> None:
    rng = random.Random(0)
    trained = sum(split_of(arithmetic(rng, ALL).story) == "train" for _ in range(5000)) / 5000
    assert 0.73 < trained < 0.79


def test_word_problems_are_answered_right() -> None:
    rng = random.Random(5)
    for _ in range(2000):
        problem = arithmetic(rng, ALL)
        story, answer = problem.story, problem.answer
        held = {(fact[1], fact[3]): int(fact[2]) for fact in story if fact[0] == "has"}
        match problem.question:
            case ("change?", who, thing):
                event = next(fact for fact in story if fact[0] == "event")
                sign = 1 if event[2] in GAINS else -1
                assert event[2] in (*GAINS, *LOSSES)
                assert answer == held[who, thing] + sign * int(event[3])
            case ("total?", one, other, thing):
                assert answer == held[one, thing] + held[other, thing]
            case ("difference?", one, other, thing):
                assert answer == held[one, thing] - held[other, thing]
        assert 0 <= answer <= 18


def test_reading_questions_have_one_answer() -> None:
    rng = random.Random(6)
    for _ in range(2000):
        story, asked = reading(rng, ALL)
        assert len({question for question, _ in asked}) == len(asked) >= 1
        for question, answer in asked:
            if question[0] == "who-has?":
                assert [fact[1] for fact in story if fact[0] == "has" and fact[3] == question[1]] == [answer]


def test_every_word_is_one_token() -> None:
    tokenizer = build_tokenizer()
    words = vocabulary()
    assert len(set(words)) == len(words) <= VOCABULARY_SIZE - 4
    assert len(tokenizer) == VOCABULARY_SIZE
    ids = tokenizer.encode(" ".join(words))
    assert ids[0] == tokenizer.bos_token_id
    assert len(set(ids)) == len(words) + 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == " ".join(words)

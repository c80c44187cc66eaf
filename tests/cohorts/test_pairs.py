from miracle_lib.cohorts import list_cohorts, list_pairs


def test_every_pair_names_cohorts_that_are_described():
    pairs, cohorts = list_pairs(), list_cohorts().set_index("name")
    assert len(pairs) >= 10
    for pair in pairs.itertuples():
        assert {*pair.train, pair.test} <= set(cohorts.index)
        assert pair.test not in pair.train
        # Crohn's disease is one of the inflammatory bowel diseases.
        tasks = set(cohorts.loc[[*pair.train, pair.test], "task"]) - {"Crohn's disease"}
        assert tasks == {pair.task}


def test_every_disease_of_the_paper_but_one_has_a_second_cohort():
    assert set(list_pairs()["task"]) == {
        "Rheumatoid arthritis",
        "Systemic lupus erythematosus",
        "Multiple sclerosis",
        "Inflammatory bowel disease",
        "Psoriasis",
    }

"""Encoders against scikit-learn's own transforms, round trips, and tables for prediction."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets import Encoder, TargetTransform, fit_encoder, load_frame, load_table
from jaxopt_lab.datasets.column_codes import NUM_QUANTILES, apply_bins, bin_edges

ENCODINGS = ("standard", "quantile", "piecewise_linear")


def make_table(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    area = rng.lognormal(5.0, 1.0, rows)
    area[rng.random(rows) < 0.1] = np.nan
    frame = pd.DataFrame(
        {
            "area": area,
            "rooms": rng.integers(1, 8, rows),
            "depth": np.where(rng.random(rows) < 0.6, 0.0, rng.normal(50.0, 9.0, rows)),
            "new": rng.random(rows) < 0.5,
            "wall": rng.choice(["brick", "wood", "stone", "mud"], rows, p=[0.5, 0.3, 0.195, 0.005]),
            "roof": rng.choice(["tile", None, "slate"], rows),
            "sold": pd.Timestamp(2019, 1, 1) + pd.to_timedelta(rng.integers(0, 900, rows), "D"),
            "price": rng.normal(0.0, 1.0, rows),
        }
    )
    return load_table(frame, "price")


def columns_of(encoder, encoded, name):
    wanted = [
        k
        for k, feature in enumerate(encoder.feature_names)
        if feature == name or feature.startswith((f"{name}:", f"{name}="))
    ]
    return encoded[:, wanted]


def test_standard_is_sklearns_imputer_and_scaler():
    table, new = make_table(), make_table(seed=1)
    encoder = fit_encoder(table.frame, table.kinds, numeric="standard")
    numbers = ["area", "rooms", "depth", "new"]
    theirs = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    theirs.fit(table.frame[numbers])
    expected = np.clip(theirs.transform(new.frame[numbers]), -10.0, 10.0)
    encoded = encoder.transform(new.frame)
    for k, name in enumerate(numbers):
        ours = columns_of(encoder, encoded, name)
        np.testing.assert_allclose(ours[:, 0], expected[:, k], rtol=1e-6, atol=1e-7)
    marks = columns_of(encoder, encoded, "area")[:, 1]
    np.testing.assert_array_equal(marks, new.frame["area"].isna())


def test_quantile_is_sklearns_transformer():
    table, new = make_table(), make_table(seed=1)
    encoder = fit_encoder(table.frame, table.kinds, numeric="quantile")
    numbers = ["area", "rooms", "depth"]
    theirs = make_pipeline(
        SimpleImputer(strategy="median"),
        QuantileTransformer(
            n_quantiles=min(NUM_QUANTILES, 300), output_distribution="normal", subsample=None
        ),
    ).fit(table.frame[numbers])
    shifted = new.frame[numbers] * 1.3 - 2.0
    encoded = encoder.transform(new.frame.assign(**shifted))
    for k, name in enumerate(numbers):
        expected = theirs.transform(shifted)[:, k]
        ours = columns_of(encoder, encoded, name)[:, 0]
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_categories_are_sklearns_one_hot():
    table = make_table()
    encoder = fit_encoder(table.frame, table.kinds, min_frequency=4)
    new = pd.DataFrame({"wall": ["mud", "brick", "never", None], "roof": ["tile", None, "x", "x"]})
    whole = table.frame.iloc[:4].assign(wall=new["wall"], roof=new["roof"])
    theirs = OneHotEncoder(
        min_frequency=4,
        max_categories=40,
        handle_unknown="infrequent_if_exist",
        sparse_output=False,
    )
    label = SimpleImputer(strategy="constant", fill_value="(missing)", missing_values=np.nan)
    names = ["wall", "roof"]
    pipeline = make_pipeline(label, theirs).fit(table.frame[names])
    expected = pipeline.transform(new[names].fillna(np.nan))
    encoded = encoder.transform(whole)
    ours = np.hstack([columns_of(encoder, encoded, name) for name in names])
    np.testing.assert_array_equal(ours, expected)
    assert "wall=(rare)" in encoder.feature_names
    assert "roof=(missing)" in encoder.feature_names
    assert "roof=(rare)" not in encoder.feature_names
    assert columns_of(encoder, encoded, "roof")[2].sum() == 0.0


def test_max_categories_bounds_the_columns():
    frame = pd.DataFrame({"street": [f"s{k % 60}" for k in range(600)]})
    encoder = fit_encoder(frame, {"street": "categorical"}, max_categories=8)
    assert encoder.num_features == 8
    np.testing.assert_array_equal(encoder.transform(frame).sum(axis=1), 1.0)


# --- piecewise-linear bins


def test_bins_follow_the_paper():
    edges = (0.0, 1.0, 3.0, 4.0)
    values = np.array([-2.0, 0.0, 0.25, 1.0, 2.0, 4.0, 9.0])
    expected = [
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
        [0.25, 0.0, 0.0],
        [1.0, 0.0, 0.0],
        [1.0, 0.5, 0.0],
        [1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0],
    ]
    np.testing.assert_array_equal(apply_bins(values, edges), expected)


def test_edges_merge_equal_quantiles_and_keep_few_values():
    rng = np.random.default_rng(0)
    wide = rng.normal(size=1000)
    assert len(bin_edges(wide, 24)) == 25
    np.testing.assert_allclose(bin_edges(wide, 4), np.quantile(wide, [0, 0.25, 0.5, 0.75, 1]))
    assert bin_edges(np.array([3.0, 1.0, 1.0, 2.0]), 24) == (1.0, 2.0, 3.0)
    assert bin_edges(np.array([1.0, 0.0, 1.0]), 24) == ()
    heavy = np.r_[np.zeros(900), np.arange(1.0, 101.0)]
    edges = bin_edges(heavy, 24)
    assert 2 < len(edges) < 25
    assert (np.diff(edges) > 0.0).all()


@given(
    hnp.arrays(np.float64, st.integers(3, 40), elements=st.floats(-1e30, 1e30)),
    hnp.arrays(np.float64, 5, elements=st.floats(-1e99, 1e99)),
    st.integers(1, 30),
)
def test_bins_are_monotone_within_zero_and_one(train, values, num_bins):
    edges = bin_edges(train, num_bins)
    if edges:
        assert len(edges) <= num_bins + 1
        encoded = apply_bins(np.sort(values), edges)
        assert ((encoded >= 0.0) & (encoded <= 1.0)).all()
        assert (np.diff(encoded, axis=0) >= 0.0).all()
        assert (np.diff(encoded, axis=1) <= 0.0).all()


# --- round trips


@pytest.mark.parametrize("numeric", ENCODINGS)
def test_json_round_trip_is_bitwise(numeric):
    table, new = make_table(), make_table(seed=2)
    encoder = fit_encoder(table.frame, table.kinds, numeric=numeric)
    again = Encoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)))
    assert again == encoder
    assert again.feature_names == encoder.feature_names
    first, second = encoder.transform(new.frame), again.transform(new.frame)
    assert first.tobytes() == second.tobytes()
    assert first.dtype == np.float32
    assert first.shape == (len(new), encoder.num_features)
    assert np.isfinite(first).all()


@given(
    st.lists(st.none() | st.floats(-1e99, 1e99, width=64), min_size=1, max_size=25),
    st.lists(st.none() | st.text(max_size=3), min_size=1, max_size=25),
    st.sampled_from(ENCODINGS),
    st.integers(1, 6),
)
def test_any_columns_round_trip_and_stay_finite(numbers, labels, numeric, num_bins):
    rows = min(len(numbers), len(labels))
    frame = pd.DataFrame(
        {
            "x": np.array(numbers[:rows], dtype=np.float64),
            "c": pd.Series(labels[:rows], dtype=object),
        }
    )
    kinds = {"x": "numeric", "c": "categorical"}
    encoder = fit_encoder(frame, kinds, numeric=numeric, num_bins=num_bins, max_categories=3)
    encoded = encoder.transform(frame)
    assert np.isfinite(encoded).all()
    again = Encoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)))
    assert again.transform(frame).tobytes() == encoded.tobytes()
    rowwise = np.concatenate([encoder.transform(frame.iloc[[k]]) for k in range(rows)])
    assert rowwise.tobytes() == encoded.tobytes()


def test_from_dict_refuses_what_is_no_encoder():
    good = fit_encoder(make_table().frame, make_table().kinds).to_dict()
    for broken in (
        {},
        good | {"schema": 2},
        good | {"numeric": "x"},
        good | {"codes": []},
        good | {"codes": [{"column": "a", "odd": 1}]},
    ):
        with pytest.raises(ValueError, match=r"encod|numeric"):
            Encoder.from_dict(broken)


# --- tables for prediction


def test_raw_table_encodes_as_the_cleaned_one():
    days = pd.date_range("2019-01-05", periods=60, freq="9D")
    raw = pd.DataFrame(
        {
            "sold": days.strftime("%d/%m/%Y"),
            "cost": [f"${k * 37:,}" for k in range(60)],
            "code": [f"00{k % 3}" for k in range(60)],
            "price": np.arange(60) * 1.5,
        }
    )
    raw["code"] = raw["code"].replace("002", "B2")
    table = load_table(raw, "price")
    encoder = encoder_of(table)
    encoded = encoder.transform(table.frame)
    np.testing.assert_array_equal(encoder.transform(raw), encoded)
    np.testing.assert_array_equal(encoder.transform(raw.iloc[3:4]), encoded[3:4])
    assert encoder.columns == ("sold", "cost", "code")
    assert encoder.check(raw) == []


def encoder_of(table, **options):
    return fit_encoder(
        table.frame,
        table.kinds,
        date_formats=table.date_formats,
        readings=table.readings,
        **options,
    )


def read_again(encoder):
    return Encoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)))


def test_new_tables_are_read_as_the_training_table_was(tmp_path):
    path = tmp_path / "train.tsv"
    lines = [f"{k},{k % 10}\t{k % 7},5" for k in range(1, 41)]
    path.write_text("km\ty\n" + "\n".join(lines) + "\n")
    encoder = read_again(encoder_of(load_table(path, "y"), numeric="standard"))
    typed = encoder.transform(pd.DataFrame({"km": [12.345, 7.125, 3.25]}))
    new = tmp_path / "new.tsv"
    new.write_text("km\n12,345\n7,125\n3,250\n")
    np.testing.assert_array_equal(encoder.transform(load_frame(new, wanted=["km"])), typed)
    new.write_text("km\tmore\n12,345\t1.2\n7,125\t1.3\n3.250\t1\n")
    frame = load_frame(new, wanted=["km"])
    np.testing.assert_array_equal(encoder.transform(frame)[:2], typed[:2])
    assert encoder.check(frame) == [
        "column 'km': 1 values are no finite numbers ('3.250' ...) and count as missing"
    ]


def test_one_odd_cell_costs_that_cell(tmp_path):
    path = tmp_path / "train.csv"
    lines = [f"{'TRUE' if k % 3 else 'FALSE'},{k}.5" for k in range(40)]
    path.write_text("pool,y\n" + "\n".join(lines) + "\n")
    encoder = encoder_of(load_table(path, "y"))
    new = tmp_path / "new.csv"
    new.write_text("pool\nTRUE\nFALSE\nmaybe\nTRUE\n\n")
    found = encoder.transform(load_frame(new))
    clean = encoder.transform(pd.DataFrame({"pool": [True, False, None, True, None]}))
    np.testing.assert_array_equal(found, clean)
    assert len(found) == 5
    assert "'maybe'" in encoder.check(load_frame(new))[0]


def test_new_grouping_and_units_are_noted(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("size,n,y\n" + "".join(f"{k}.5 sqft,{k},{k}.1\n" for k in range(20, 60)))
    encoder = encoder_of(load_table(path, "y"))
    new = pd.DataFrame({"size": ["21.5 sqft", "21.5", "21.5 sqm"], "n": ["30", "12,345", "31"]})
    notes = encoder.check(new)
    assert "no finite numbers in sqft ('21.5 sqm' ...)" in notes[0]
    assert "'12,345' is read as 12345" in notes[1]
    encoded = encoder.transform(new)
    width = encoded.shape[1] // 2
    np.testing.assert_array_equal(encoded[0, :width], encoded[1, :width])


def test_encoders_of_earlier_versions_still_read():
    table = make_table()
    old = encoder_of(table).to_dict()
    for code in old["codes"]:
        code.pop("exact", None)
        code.pop("reading", None)
    encoder = Encoder.from_dict(json.loads(json.dumps(old)))
    frame = table.frame
    np.testing.assert_array_equal(encoder.transform(frame), encoder_of(table).transform(frame))
    text = (
        frame.astype(object)
        .where(frame.notna(), "NA")
        .assign(
            sold=frame["sold"], area=[("NA" if np.isnan(v) else repr(v)) for v in frame["area"]]
        )
    )
    text["roof"] = frame["roof"].fillna("NA")
    np.testing.assert_array_equal(encoder.transform(text), encoder.transform(frame))


def test_values_from_subnormal_to_large_under_quantile():
    values = np.array([5e-324, 1e-310, 1e-300, 1e-5, 1.0, 1e9, np.nan, 2e-320] * 9 + [0.0])
    frame = pd.DataFrame({"x": values})
    for numeric in ENCODINGS:
        encoded = fit_encoder(frame, {"x": "numeric"}, numeric=numeric).transform(frame)
        assert np.isfinite(encoded).all()


def test_missing_column_is_named_and_extra_ones_ignored():
    table = make_table()
    encoder = fit_encoder(table.frame, table.kinds)
    frame = table.frame.assign(more=1)
    np.testing.assert_array_equal(encoder.transform(frame), encoder.transform(table.frame))
    for call in (encoder.transform, encoder.check):
        with pytest.raises(UserError, match=r"lacks a needed column: 'wall'.*mean 'walls'"):
            call(frame.rename(columns={"wall": "walls"}))
        with pytest.raises(UserError, match="2 needed columns: 'area', 'wall'"):
            call(frame.drop(columns=["area", "wall"]))


def test_odd_values_are_noted_and_count_as_missing():
    table = make_table()
    encoder = fit_encoder(table.frame, table.kinds)
    odd = table.frame.iloc[:3].astype(object)
    odd["area"] = ["big", np.inf, 1e300]
    odd["wall"] = ["gold", "brick", None]
    odd["sold"] = ["soon", "2019-02-03", None]
    notes = encoder.check(odd)
    assert len(notes) == 3
    assert "'area': 3 values are no finite numbers ('big' ...)" in notes[0]
    assert "'wall': 1 labels rare or new ('gold')" in notes[1]
    assert "'sold': 1 values are no dates" in notes[2]
    blank = odd.assign(area=np.nan, sold=[None, "2019-02-03", None])
    np.testing.assert_array_equal(encoder.transform(odd), encoder.transform(blank))


def test_an_all_missing_fold_column_is_harmless():
    frame = pd.DataFrame({"x": [np.nan] * 5, "y": [1.0, 2.0, 3.0, 4.0, 5.0]})
    kinds = {"x": "numeric", "y": "numeric"}
    for numeric in ENCODINGS:
        encoder = fit_encoder(frame, kinds, numeric=numeric)
        assert np.isfinite(encoder.transform(frame.assign(x=3.0))).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numeric": "quantiles"}, "Did you mean 'quantile'"),
        ({"num_bins": 0}, "num_bins"),
        ({"max_categories": 1}, "max_categories"),
    ],
)
def test_settings_are_checked(options, message):
    table = make_table(30)
    with pytest.raises(ValueError, match=message):
        fit_encoder(table.frame, table.kinds, **options)


# --- target


@given(
    hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(1e-3, 1e6)),
    st.booleans(),
)
def test_target_round_trip(target, log):
    transform = TargetTransform.fit(target, log)
    values = np.log(target) if log else target
    z = (values - transform.mean) / transform.scale
    back = transform.inverse(z)
    np.testing.assert_allclose(back, target, rtol=1e-6, atol=1e-9 * np.abs(target).max())
    assert transform.forward(target).dtype == np.float32
    again = TargetTransform.from_dict(json.loads(json.dumps(transform.to_dict())))
    assert again == transform
    assert np.isfinite(transform.inverse(np.array([-1e30, 1e30, np.inf]))).all()


def test_target_scale_is_sklearns():
    target = np.random.default_rng(0).lognormal(size=50)
    scaler = StandardScaler().fit(np.log(target)[:, None])
    transform = TargetTransform.fit(target, log=True)
    np.testing.assert_allclose(
        [transform.mean, transform.scale], [scaler.mean_[0], scaler.scale_[0]]
    )
    assert np.isnan(transform.inverse(np.array([np.nan]))).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e155, 1e300])
def test_targets_of_any_magnitude(scale):
    target = np.array([-1.0, 0.25, 1.0]) * scale
    transform = TargetTransform.fit(target)
    np.testing.assert_allclose(transform.inverse(transform.forward(target)), target, rtol=1e-6)
    assert transform.scale / scale == pytest.approx(TargetTransform.fit(target / scale).scale)


@pytest.mark.parametrize("target", [[], [1.0, np.nan], [1.0, 0.0], [-1.0, 1.0]])
def test_target_refuses(target):
    with pytest.raises(ValueError, match="target must"):
        TargetTransform.fit(target, log=True)

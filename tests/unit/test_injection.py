"""The record of injected faults: what ``fault clear`` has to mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.lvs_labs import web_db
from vlab.diagnosis.rule import fault
from vlab.engine.injection import Injected, Mend, _record, injected
from vlab.errors import ConflictError
from vlab.state import Paths


def test_what_is_recorded_comes_back(tmp_path: Path) -> None:
    made = [
        Injected(id, each.place, tuple(Mend(*mend) for mend in each.mends))
        for rule in ("vip-owner", "host-filters-bridge", "nat-return-path") for id, each in fault(web_db(), rule)
    ]  # fmt: skip
    _record(Paths(tmp_path), "shop", made)
    assert injected(Paths(tmp_path), "shop") == made


def test_a_lab_without_record_has_no_faults(tmp_path: Path) -> None:
    assert injected(Paths(tmp_path), "shop") == []


@pytest.mark.parametrize("text", ["", "[", "[{}]", '["x"]', "{"])
def test_a_spoilt_record_is_told(tmp_path: Path, text: str) -> None:
    _record(Paths(tmp_path), "shop", [])
    (tmp_path / "labs/shop/faults.json").write_text(text)
    with pytest.raises(ConflictError, match="is not what vlab wrote") as told:
        injected(Paths(tmp_path), "shop")
    assert "vlab down shop" in told.value.hint

"""Files outside the repository that some tests look at, and skip without."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not (SHARED / "models/ict_face.h5").is_file():
        pytest.skip("../shared/models/ict_face.h5 is not there")
    return SHARED

"""Which libraries the serving process does not import."""

import subprocess
import sys

HEAVY = ("pandas", "polars", "mlflow", "sklearn", "pyarrow", "deltalake", "airflow", "scipy.stats")


def test_serving_imports_no_heavy_library() -> None:
    program = (
        "import sys; import infra.cli; infra.cli.build_app(); import serving.bootstrap;"
        "import ml.projects; ml.projects.projects(); import features.stores.lmdb;"
        "import features.stores.redis.store;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "[]"

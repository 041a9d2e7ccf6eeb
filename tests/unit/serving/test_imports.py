"""What the serving process does not carry."""

import subprocess
import sys

HEAVY = ("pandas", "polars", "mlflow", "sklearn", "pyarrow", "deltalake", "airflow", "scipy.stats")


def test_serving_imports_no_heavy_library() -> None:
    program = (
        "import sys; import infra.cli; infra.cli.build_app(); import serving.bootstrap;"
        "import ml.projects; ml.projects.projects(); import features.adapters.lmdb;"
        "import features.adapters.redis;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

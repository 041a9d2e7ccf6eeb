"""The health pages of a process under test."""

import urllib.error
import urllib.request


def health_page(port: int, path: str) -> tuple[int, str]:
    """Status and body of a page on 127.0.0.1; (0, "") while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""

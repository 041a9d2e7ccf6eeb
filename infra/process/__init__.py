"""What every long-running process needs: signals, health pages, a watchdog, waiting.

May import `infra.logging`, `infra.settings` and the modules below them.
"""

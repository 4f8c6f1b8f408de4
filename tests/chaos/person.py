"""A person who acts at random moments, whatever the loop is doing."""

import subprocess

from tests.stack import DRIFTLOOP, Stack

REASON = "at a random moment"
COMMANDS = {
    "rollback": ("rollback", "{model}", "--reason", REASON),
    "pause": ("pause", "{model}", "--reason", REASON, "--for", "1m"),
    "resume": ("resume", "{model}"),
    "approve": ("approve", "{model}"),
    "resolve": ("incident", "resolve", "{incident}", "--reason", REASON),
}


class Person:
    """Types commands and waits for none of them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._typed: list[tuple[str, subprocess.Popen[str]]] = []

    def act(self, deed: str) -> str:
        """Type a command; give what was typed."""
        name, model = deed.split()
        incident = "0"
        if name == "resolve":
            rows = self.stack.ask(
                f"SELECT id FROM incident WHERE model = '{model}' AND state NOT IN ('resolved', 'rolled_back') LIMIT 1"
            )
            if not rows:
                return f"a person finds no incident of {model} to resolve"
            incident = str(rows[0][0])
        words = [each.format(model=model, incident=incident) for each in COMMANDS[name]]
        process = subprocess.Popen(
            [DRIFTLOOP, *words], env=self.stack.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._typed.append((" ".join(words), process))
        return f"a person types: driftloop {' '.join(words)}"

    def look(self) -> list[str]:
        """Read what the commands that have ended said."""
        said = []
        for words, process in [each for each in self._typed if each[1].poll() is not None]:
            self._typed.remove((words, process))
            output = process.stdout.read() if process.stdout is not None else ""
            said.append(f"driftloop {words.split(' --')[0]} ({process.returncode}): {' '.join(output.split())[-160:]}")
        return said

    def leave(self) -> None:
        """End the commands that are still at work."""
        for _, process in self._typed:
            process.kill()
            process.wait()
        self._typed.clear()

"""The consumer processes: started, listened to, one of them killed, the others stopped."""
import json
import os
import queue
import signal
import subprocess
import threading

# client/examples/demo, as tools/demo.sh has built it.
CONSUMER = os.environ.get("QFLOW_DEMO_CONSUMER")


def address():
    """The database that libpq's environment names, as the crate takes it."""
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    return " ".join(f"{name}={os.environ[variable]}" for name, variable in names.items() if variable in os.environ)


class CrewError(Exception):
    """A consumer did what none should."""


class Crew:
    def __init__(self):
        self.processes = {}
        self.events = queue.Queue()
        self.killed = None
        self.listeners = []

    def start(self, number, hold_at=None):
        process = subprocess.Popen(
            [CONSUMER, str(number), *([str(hold_at)] if hold_at else [])],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env={**os.environ, "DATABASE_URL": address()},
        )
        self.processes[number] = process
        # A thread for each pipe: none ever fills up and stops its consumer.
        listener = threading.Thread(target=self._listen, args=(process.stdout,), daemon=True)
        listener.start()
        self.listeners.append(listener)

    def _listen(self, lines):
        for line in lines:
            self.events.put(json.loads(line))

    def event(self, timeout=0):
        """The next thing that a consumer said, or None."""
        try:
            return self.events.get(timeout=timeout) if timeout else self.events.get_nowait()
        except queue.Empty:
            return None

    def wait_for(self, event, timeout):
        heard = self.event(timeout)
        if heard is None or heard["event"] != event:
            self.check()
            raise CrewError(f"waited {timeout} s for a consumer to be '{event}', got {heard}")
        return heard

    def kill(self, number):
        """SIGKILL: no handler runs, no connection is closed properly. Returns when the process is gone."""
        process = self.processes[number]
        process.kill()
        if process.wait() != -signal.SIGKILL:
            raise CrewError(f"consumer {number} ended before it was killed")
        self.killed = number

    def check(self):
        """Every consumer but the killed one has to be at work."""
        for number, process in self.processes.items():
            if number != self.killed and process.poll() is not None:
                raise CrewError(f"consumer {number} ended with status {process.returncode}")

    def stop(self):
        """SIGTERM: each one ends what it has begun. Returns what they said last."""
        for number, process in self.processes.items():
            if number != self.killed:
                process.terminate()
        for number, process in self.processes.items():
            status = process.wait(timeout=30)
            if number != self.killed and status != 0:
                raise CrewError(f"consumer {number} ended with status {status}")
        for listener in self.listeners:
            listener.join()
        return [e for e in iter(self.event, None) if e["event"] == "end"]

    def abandon(self):
        """Whatever happened, nothing stays behind."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

"""Load for a server: clients that ask it again and again, and requests of one call for its workers."""

import http.client
import json
import threading
import time

ROWS = [{"a": number / 7 - 1, "b": "red", "c": 0.5} for number in range(15)]


def ask(connection, inputs, task="kinds"):
    """Status and answers; what is no JSON as it is."""
    body = json.dumps({"inputs": inputs})
    connection.request("POST", f"/v1/tasks/{task}/predict", body, {"content-type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    return response.status, json.loads(content) if content.startswith(b"{") else content


def connected(address):
    return http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)


def until(condition):
    """Wait for a condition, half a minute at most."""
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends, "it did not become true"
        time.sleep(0.01)


class Clients:
    """Threads that ask again and again; what each request came to, and when it was sent."""

    def __init__(self, address, count, inputs):
        self.address, self.inputs, self.found, self.stop = address, inputs, [], threading.Event()
        self.pause = 0.0  # seconds after an answer
        self.threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _ask(self, number):
        connection = connected(self.address)
        while not self.stop.is_set():
            row = number % len(ROWS)
            sent = time.monotonic()
            try:
                status, answer = ask(connection, [ROWS[row]] * self.inputs)
            except (OSError, http.client.HTTPException) as error:
                self.found.append((sent, row, type(error).__name__, None))
                connection.close()
                time.sleep(0.01)
            else:
                self.found.append((sent, row, status, answer))
                time.sleep(self.pause + 0.05 * (status != 200))  # told to come later
            number += 1

    def join(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)


def right(answer, row, expected, count):
    answers = [one["p(yes)"] for one in answer["answers"]]
    return len(answers) == count and all(abs(one - expected[row]) < 1e-4 for one in answers)


def steps(do):
    """Steps of a request that is one call."""
    yield
    return do()

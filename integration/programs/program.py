"""What Python asks of a kernel and a container: threads, pipes, semaphores in /dev/shm, locks of files, sockets, signals."""

import multiprocessing
import queue
import signal
import socket
import sqlite3
import subprocess
import sys
import threading


def square(number):
    return number * number


def count(total, rounds):
    for _ in range(rounds):
        with total.get_lock():
            total.value += 1


def threads():
    numbers, sums = queue.Queue(), queue.Queue()
    for number in range(100):
        numbers.put(number)

    def work():
        total = 0
        try:
            while True:
                total += numbers.get_nowait()
        except queue.Empty:
            sums.put(total)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(sums.get() for _ in workers)


def pool(method):
    with multiprocessing.get_context(method).Pool(2) as workers:
        return workers.map(square, range(4))


def shared():
    total = multiprocessing.Value("i", 0)
    workers = [multiprocessing.Process(target=count, args=(total, 100)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return total.value


def sqlite():
    path = "/srv/fleet.db"
    with sqlite3.connect(path) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE ships (name TEXT, guns INTEGER)")
        writer.executemany("INSERT INTO ships VALUES (?, ?)", [("Victory", 104), ("Surprise", 28)])
    ships = sqlite3.connect(path).execute("SELECT * FROM ships ORDER BY name")
    return ", ".join(f"{name} {guns}" for name, guns in ships)


def terminate(_signal, _frame):
    print("terminated", flush=True)
    sys.exit(5)


def main():
    print("threads", threads())
    print("subprocess", subprocess.run(["uname", "-n"], capture_output=True, text=True, check=True).stdout.strip())
    print("fork", pool("fork"))
    print("spawn", pool("spawn"))
    print("shared", shared())
    print("sqlite", sqlite())
    print("address", socket.create_server(("127.0.0.1", 80)).getsockname()[0], flush=True)
    signal.signal(signal.SIGTERM, terminate)
    socket.socket(socket.AF_UNIX).bind("/srv/ready")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()

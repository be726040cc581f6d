# A seccomp agent: takes one listener from a socket, prints the state that came with it, and answers
# every call that it is asked about with success, without making it.
import array, fcntl, json, os, select, socket, sys

SECCOMP_IOCTL_NOTIF_RECV = 0xC0502100
SECCOMP_IOCTL_NOTIF_SEND = 0xC0182101

server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(1)
print("listening", flush=True)
connection, _ = server.accept()
message, fds, _, _ = socket.recv_fds(connection, 65536, 4)
state = json.loads(message)
print(json.dumps({"fds": state["fds"], "metadata": state.get("metadata"), "status": state["state"]["status"],
                  "id": state["state"]["id"], "pid": state["pid"] == state["state"]["pid"], "count": len(fds)}), flush=True)
listener = fds[0]
while True:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    events = poll.poll(5000)
    if not events or not events[0][1] & select.POLLIN:
        break
    request = array.array("B", bytes(80))
    fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, request)
    # The id, and a value and an error of 0.
    answer = array.array("B", bytes(request[:8]) + bytes(16))
    fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, answer)

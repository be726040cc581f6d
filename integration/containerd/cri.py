"""A client of the Container Runtime Interface for shell scripts: one process that answers all calls of a suite.

    cri.py SOCKET FOLDER

makes the classes of cri.proto in FOLDER and reads calls from the FIFO FOLDER/calls, each a line `REPLY METHOD JSON`. To the FIFO
REPLY it writes a line: `0 JSON` with the response or `1 MESSAGE` with the error. Two methods are more than a call: Exec and
Attach go on to talk with the process. Their JSON may have a list `talk` of [TEXT TO WAIT FOR, TEXT TO SEND THEN], and `size`,
[ROWS, COLUMNS] of the terminal; the response then is {"stdout", "stderr", "status"}.
"""
import base64
import json
import os
import subprocess
import sys

import grpc
import websocket
from google.protobuf import json_format

# What the first byte of a message says.
STDIN, STDOUT, STDERR, STATUS, RESIZE = range(5)


def compile_messages(folder):
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run(["protoc", f"--proto_path={here}", f"--python_out={folder}", "cri.proto"], check=True)
    sys.path.insert(0, folder)
    import cri_pb2

    return cri_pb2


def call(channel, messages, method, arguments):
    response = getattr(messages, method + "Response")
    stub = channel.unary_unary(
        f"/runtime.v1.RuntimeService/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString,
    )
    request = json_format.ParseDict(arguments, getattr(messages, method + "Request")())
    try:
        message = stub(request, timeout=30, wait_for_ready=True)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNAVAILABLE:
            raise
        # The connection was to a daemon that has ended since; there is a new one.
        message = stub(request, timeout=30, wait_for_ready=True)
    answer = json_format.MessageToDict(message, including_default_value_fields=True, preserving_proto_field_name=True)
    if method == "ExecSync":
        for stream in ("stdout", "stderr"):
            answer[stream] = base64.b64decode(answer[stream]).decode(errors="replace")
    return answer


def exit_status(text):
    """The status of the process from the last message of a connection."""
    status = json.loads(text)
    if status.get("status") == "Success":
        return 0
    for cause in status.get("details", {}).get("causes", []):
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise RuntimeError(status.get("message", text))


def talk(url, lines, size):
    connection = websocket.create_connection(url.replace("http://", "ws://", 1), timeout=20, subprotocols=["v4.channel.k8s.io"])
    if size:
        connection.send_binary(bytes([RESIZE]) + json.dumps({"Height": size[0], "Width": size[1]}).encode())
    heard = {STDOUT: b"", STDERR: b""}
    status = None
    lines = list(lines)
    try:
        while True:
            while lines and lines[0][0].encode() in heard[STDOUT]:
                connection.send_binary(bytes([STDIN]) + lines.pop(0)[1].encode())
            message = connection.recv()
            if not message:
                break
            if message[0] == STATUS:
                status = exit_status(message[1:])
            elif message[0] in heard:
                heard[message[0]] += message[1:]
    except websocket.WebSocketConnectionClosedException:
        pass
    connection.close()
    return {"stdout": heard[STDOUT].decode(errors="replace"), "stderr": heard[STDERR].decode(errors="replace"), "status": status}


def answer(channel, messages, method, arguments):
    if method not in ("Exec", "Attach"):
        return call(channel, messages, method, arguments)
    lines, size = arguments.pop("talk", []), arguments.pop("size", None)
    return talk(call(channel, messages, method, arguments)["url"], lines, size)


def main(socket, folder):
    messages = compile_messages(folder)
    channel = grpc.insecure_channel(f"unix://{socket}")
    # Both ends are held open, so that there is no end of file between two callers.
    with open(os.open(os.path.join(folder, "calls"), os.O_RDWR)) as calls:
        while True:
            reply, method, arguments = calls.readline().rstrip("\n").split(" ", 2)
            try:
                line = "0 " + json.dumps(answer(channel, messages, method, json.loads(arguments)))
            except grpc.RpcError as error:
                line = "1 " + error.details().replace("\n", " ")
            except Exception as error:
                line = "1 " + repr(error).replace("\n", " ")
            # The caller holds its FIFO open; a caller that is gone has none.
            try:
                with open(os.open(reply, os.O_WRONLY | os.O_NONBLOCK), "w") as out:
                    os.set_blocking(out.fileno(), True)
                    out.write(line + "\n")
            except OSError:
                pass


main(*sys.argv[1:])

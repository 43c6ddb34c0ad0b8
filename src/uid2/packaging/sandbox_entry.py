"""First program inside the sandbox: limits, the filter, then the program itself. Standard library only, run by -c.

Arguments: the filter in base64, a socket's descriptor, bytes of address space, bytes of stack, the program, its own.
The filter's listener goes out over the socket; without it nothing would answer the calls that the filter holds back.
"""

import array
import base64
import ctypes
import os
import resource
import socket
import sys

SECCOMP = 317
SET_MODE_FILTER = 1
NEW_LISTENER = 8
NO_NEW_PRIVILEGES = 38


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]


def enter(arguments: list[str]) -> None:
    """Does not return: becomes the program."""
    steps = base64.b64decode(arguments[0])
    link = socket.socket(fileno=int(arguments[1]))
    space, stack = int(arguments[2]), int(arguments[3])
    resource.setrlimit(resource.RLIMIT_STACK, (stack, stack))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if space:
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
    kernel = ctypes.CDLL(None, use_errno=True)
    kernel.syscall.restype = ctypes.c_long
    kernel.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    buffer = ctypes.create_string_buffer(steps, len(steps))
    program = _Program(len(steps) // 8, ctypes.addressof(buffer))
    reference = ctypes.byref(program)
    handed = array.array("i", [0])
    message = [b"listener"]
    # Nothing but the one message between the filter and its listener: any other call would wait for ever.
    handed[0] = kernel.syscall(SECCOMP, SET_MODE_FILTER, NEW_LISTENER, reference)
    if handed[0] < 0:
        sys.exit(f"the kernel refused the filter of system calls: {os.strerror(ctypes.get_errno())}")
    link.sendmsg(message, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handed)])
    os.close(handed[0])
    if link.recv(8) != b"go":
        sys.exit("the runner of the sandbox went away")
    link.close()
    os.execve(arguments[4], arguments[4:], dict(os.environ))  # noqa: S606 - that is its purpose


if __name__ == "__main__":
    enter(sys.argv[1:])

"""Run a tiny guest under KVM and say how fast it runs; a script of its own, standard library only.

`imagebuild.host.kvm` starts it as a child with a deadline: a KVM_RUN that does not come
back can only be ended with its process. The ioctls and structs are those of Linux's
Documentation/virt/kvm/api.rst and arch/x86/include/uapi/asm/kvm.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import struct
import sys
import time

_CREATE_VM = 0xAE01
_GET_VCPU_MMAP_SIZE = 0xAE04
_CREATE_VCPU = 0xAE41
_RUN = 0xAE80
_SET_USER_MEMORY_REGION = 0x4020AE46
_GET_SREGS, _SET_SREGS, _SREGS_SIZE = 0x8138AE83, 0x4138AE84, 312
_SET_REGS, _REGS_SIZE = 0x4090AE82, 144
_EXIT_HLT = 5

_MEMORY = 0x10000
_START = 0x1000


def measure(device: str) -> float:
    """Instructions a second in a real mode guest, counted over a loop that touches nothing."""
    kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    memory = mmap.mmap(-1, _MEMORY)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, _MEMORY, address))
    cpu = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    state = mmap.mmap(cpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE))
    segments = bytearray(_SREGS_SIZE)
    fcntl.ioctl(cpu, _GET_SREGS, segments)
    struct.pack_into("<Q", segments, 0, 0)  # cs.base
    struct.pack_into("<H", segments, 12, 0)  # cs.selector
    fcntl.ioctl(cpu, _SET_SREGS, bytes(segments))

    def seconds(rounds: int) -> float:
        # mov ecx, rounds; again: dec ecx; jnz again; hlt
        code = b"\x66\xb9" + struct.pack("<I", rounds) + b"\x66\x49\x75\xfc\xf4"
        memory[_START : _START + len(code)] = code
        registers = bytearray(_REGS_SIZE)
        struct.pack_into("<QQ", registers, 16 * 8, _START, 2)  # rip; rflags, bit 1 is always set
        fcntl.ioctl(cpu, _SET_REGS, bytes(registers))
        started = time.monotonic()
        fcntl.ioctl(cpu, _RUN, 0)
        taken = time.monotonic() - started
        reason = struct.unpack_from("<I", state, 8)[0]
        if reason != _EXIT_HLT:
            raise OSError(f"the guest stopped with exit reason {reason}")
        return taken

    # Few rounds first: they are enough where every one of them is emulated. No single short
    # run is believed, a busy host may have interrupted it: the best one counts.
    rounds, best, taken = 2_000, 0.0, 0.0
    while taken < 0.05 and rounds <= 10_000_000:
        taken = seconds(rounds)
        best = max(best, 2 * rounds / max(taken, 1e-9))
        rounds *= 5
    return best


if __name__ == "__main__":
    try:
        print(json.dumps({"instructions_per_second": measure(sys.argv[1])}))
    except OSError as exc:
        print(json.dumps({"error": exc.strerror or str(exc)}))

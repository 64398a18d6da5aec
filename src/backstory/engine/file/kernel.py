"""Kernels: loops over bytes and rows, written in Python and compiled by Numba when they are first used.

Only the modules that hold kernels import this one, and only large imports import those: importing Numba takes
memory and half a second. What a kernel must never do: hold objects, raise, or read the clock. Source: decision 13.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownLambdaType=false

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_compiler = cast("Callable[..., Callable[[Callable[..., Any]], Any]]", numba.njit)
_instruction = cast("Callable[[Callable[..., Any]], Callable[..., Any]]", intrinsic)
F = TypeVar("F", bound=Callable[..., Any])
_WORD = ir.IntType(64).as_pointer()


def kernel(function: F) -> F:
    """Compile a function over arrays; the GIL is let go of, and the machine code is kept where that is possible.

    What is kept is thrown away when the kernel's own file changes, not when one does whose pieces it calls.
    """
    try:
        return _compiler(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:
        # No folder to keep machine code in: compiled anew in each process.
        return _compiler(nogil=True, error_model="numpy")(function)


def piece(function: F) -> F:
    """Compile a function that only kernels call."""
    return _compiler(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


@_instruction
def pointer(typing, array):
    """The items of an array without its bounds and counts: cheap to hand on, for as long as somebody holds the array.

    A kernel lets go of an array of its own behind the last line that names it, so what is pointed at comes as an
    argument.
    """

    def code(context, builder, signature, arguments):
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), code


@_instruction
def eight(typing, source, at):
    """The eight bytes that begin at a place, as one number."""

    def code(context, builder, signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        wide = builder.bitcast(place, _WORD)
        return builder.load(wide, align=1)

    return types.uint64(types.CPointer(types.uint8), types.intp), code


@_instruction
def put_eight(typing, target, at, word):
    """Write eight bytes at a place."""

    def code(context, builder, signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        builder.store(arguments[2], builder.bitcast(place, _WORD), align=1)
        return context.get_dummy_value()

    return types.void(types.CPointer(types.uint8), types.intp, types.uint64), code


@_instruction
def fetch(typing, source, at):
    """Have the processor bring a place near, which will be read in a moment; nobody waits for it."""

    def code(context, builder, signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        place = builder.bitcast(place, ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(prefetch, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(source, types.intp), code


@piece
def copy(body, at, texts, out, length, size):
    """Copy bytes; returns the place behind them. What lies behind that may be overwritten with anything."""
    at, out, end = np.int64(at), np.int64(out), np.int64(out) + length
    if at + length + 8 <= size:
        while out < end:
            put_eight(texts, out, eight(body, at))
            out += 8
            at += 8
        return end
    while out < end:
        texts[out] = body[at]
        out += 1
        at += 1
    return end


@piece
def same(body, left, right, length, size):
    """Are two stretches alike? ``size`` bounds what may be read."""
    step = 0
    while step + 8 <= length:
        if eight(body, left + step) != eight(body, right + step):
            return False
        step += 8
    while step < length:
        if body[left + step] != body[right + step]:
            return False
        step += 1
    return True

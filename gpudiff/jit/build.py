"""Compile a kernel, or find it compiled on disk."""

from __future__ import annotations

import json

from gpudiff._version import version
from gpudiff.jit import headers
from gpudiff.jit.cache import Cache, key_of
from gpudiff.jit.compiler import OPTIONS, compile_source, compiler_version
from gpudiff.jit.driver import Compiled

_cache = Cache()


def build(source: str, arch: str, name: str, cache: Cache | None = None) -> Compiled:
    """The machine code of a kernel.

    Args:
        source: the text; what it includes is looked for in the folder of kernels.
        arch: such as "sm_90".
        name: what it is, for messages.
        cache: where to look and to store; None for the process's own.

    Raises:
        CompileError: it does not compile.
        BackendError: the compiler or the kernels' source are missing.
    """
    cache = _cache if cache is None else cache
    digest = headers.digest()
    key = key_of(
        {
            "source": source,
            "headers": digest,
            "arch": arch,
            "compiler": compiler_version(),
            "options": json.dumps(OPTIONS, sort_keys=True),
            "gpudiff": version(),
        }
    )
    found = cache.get(key)
    if found is not None:
        return found
    compiled = compile_source(source, arch, name, [headers.folder()])
    if headers.digest() == digest:  # nobody edited them meanwhile
        cache.put(key, compiled)
    return compiled

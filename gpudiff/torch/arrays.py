"""torch tensors as arrays of the core: NumPy views of those on the CPU, `DeviceArray`s for those on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from gpudiff._arrays import exposes_cuda
from gpudiff._device import DeviceArray, Shape, contiguous
from gpudiff._errors import DeviceError, DtypeError, ShapeError
from gpudiff._problem import Array
from gpudiff.forms.stack import is_number

_FLOAT = (torch.float64, torch.float32)
_HALF = (torch.float16, torch.bfloat16)
_TO_TORCH = {
    np.dtype(np.float64): torch.float64,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.int8): torch.int8,
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.int32): torch.int32,
    np.dtype(np.int64): torch.int64,
    np.dtype(np.bool_): torch.bool,
}
_TO_NUMPY = {kind: dtype for dtype, kind in _TO_TORCH.items()}


class TorchPackage:
    """The `Package` of torch; memory comes from its caching allocator, the stream is its current one."""

    name = "torch"

    def wrap(self, native: torch.Tensor) -> DeviceArray:
        """The tensor as the core sees it."""
        dtype = _TO_NUMPY[native.dtype]
        size = dtype.itemsize
        strides = tuple([stride * size for stride in native.stride()])
        return DeviceArray(self, native, native.data_ptr(), tuple(native.shape), strides, dtype, self.number(native))

    def number(self, native: torch.Tensor) -> int:
        """The number of the device that a tensor lies on."""
        return native.get_device()

    def device(self, number: int) -> Any:
        """The device of that number, as torch's functions take it."""
        return number

    def empty(self, shape: Shape, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """A contiguous tensor, contents undefined."""
        native = torch.empty(shape, dtype=_TO_TORCH[dtype], device=self.device(device))
        return DeviceArray(self, native, native.data_ptr(), shape, contiguous(shape, dtype.itemsize), dtype, device)

    def empties(self, count: int, shape: Shape, dtype: np.dtype[Any], device: int) -> list[DeviceArray]:
        """Several contiguous tensors, contents undefined, in one allocation."""
        together = torch.empty((count, *shape), dtype=_TO_TORCH[dtype], device=self.device(device))
        start, strides = together.data_ptr(), contiguous((count, *shape), dtype.itemsize)
        return [
            DeviceArray(self, native, start + i * strides[0], shape, strides[1:], dtype, device)
            for i, native in enumerate(together.unbind(0))
        ]

    def zeros(self, shape: Shape, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """A contiguous tensor of zeros."""
        return self.wrap(torch.zeros(shape, dtype=_TO_TORCH[dtype], device=self.device(device)))

    def eye(self, n: int, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """The identity matrix."""
        return self.wrap(torch.eye(n, dtype=_TO_TORCH[dtype], device=self.device(device)))

    def cast(self, native: torch.Tensor, dtype: np.dtype[Any]) -> torch.Tensor:
        """The same numbers in another element type."""
        return native.to(_TO_TORCH[dtype])

    def copy(self, native: torch.Tensor) -> torch.Tensor:
        """The same numbers in memory of their own."""
        return native.clone()

    def where(self, keep: torch.Tensor, native: torch.Tensor, other: float) -> torch.Tensor:
        """The entries where `keep` holds, `other` elsewhere."""
        return torch.where(keep, native, other)

    def to_host(self, native: torch.Tensor) -> Array:
        """A copy as a NumPy array; waits for the current stream."""
        return native.detach().to("cpu", copy=True).numpy()

    def from_host(self, array: Array, device: int) -> DeviceArray:
        """A copy of a NumPy array on the device."""
        return self.wrap(torch.tensor(array, device=self.device(device)))

    def stream(self, device: int) -> int:
        """The handle of torch's current stream."""
        return torch.cuda.current_stream(device).cuda_stream


PACKAGE = TorchPackage()


def as_tensor(name: str, value: Any) -> torch.Tensor:
    """Whatever the caller passed as a tensor: tensors, arrays on a GPU where they lie, and other values on the CPU.

    Raises:
        ShapeError: it is no array.
    """
    if isinstance(value, torch.Tensor):
        return value
    try:
        return _borrowed(value) if exposes_cuda(value) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise ShapeError(f"{name}: expected a tensor or an array of numbers, got {type(value).__name__}") from error


def _borrowed(value: Any) -> torch.Tensor:
    """An array of another package on a GPU as a tensor of the same memory, ordered after what made it."""
    if hasattr(value, "__dlpack__"):
        return torch.from_dlpack(value)  # the protocol orders the streams
    producer = value.__cuda_array_interface__.get("stream")
    tensor = torch.as_tensor(value, device="cuda")
    if producer is not None:  # torch does not look at it
        made = torch.cuda.ExternalStream(producer, device=tensor.device).record_event()
        torch.cuda.current_stream(tensor.device).wait_event(made)
    return tensor


def to_core(tensor: torch.Tensor) -> Any:
    """A tensor's memory as an array of the core."""
    plain = tensor.detach().resolve_neg()
    return plain.numpy() if lies_on_host(plain) else PACKAGE.wrap(plain)


def lies_on_host(tensor: torch.Tensor) -> bool:
    """Whether a tensor is on the CPU."""
    return tensor.device.type == "cpu"


def to_caller(array: Any) -> torch.Tensor:
    """An array of the core as a tensor of the same memory."""
    return array.native if isinstance(array, DeviceArray) else torch.from_numpy(np.asarray(array))


def canonical(name: str, value: Any) -> torch.Tensor:
    """An argument as a strided tensor on the CPU or a GPU in float64 or float32.

    Raises:
        DtypeError: sparse, or of another element type.
        DeviceError: it is on another device.
    """
    tensor = as_tensor(name, value)
    if tensor.layout != torch.strided:
        raise DtypeError(f"{name}: expected a dense tensor, got layout {tensor.layout}; pass {name}.to_dense()")
    if tensor.device.type not in ("cpu", "cuda"):
        raise DeviceError(f"{name}: expected a tensor on the CPU or a CUDA device, got {tensor.device}")
    if tensor.dtype in _FLOAT:
        return tensor
    if tensor.dtype in _HALF:
        if torch.is_autocast_enabled(tensor.device.type):
            return tensor.to(torch.float32)
        raise DtypeError(f"{name}: expected float64, float32 or integers, got {tensor.dtype} (fine under autocast)")
    if tensor.is_complex():
        raise DtypeError(f"{name}: expected float64, float32 or integers, got {tensor.dtype}")
    return tensor.to(torch.float64)


def narrowed(solution: Any, arguments: dict[str, Any]) -> Any:
    """A solution with its point in float16 or bfloat16 where all arrays among the arguments are of that type."""
    arrays = [value for value in arguments.values() if value is not None and not is_number(value)]
    dtypes = {value.dtype if isinstance(value, torch.Tensor) else None for value in arrays}
    if len(dtypes) != 1:
        return solution
    (dtype,) = dtypes
    if dtype not in _HALF:
        return solution
    others = {name: value for name, value in vars(solution).items() if name != "linearization"}
    point = {name: getattr(solution, name).to(dtype) for name in solution.POINT}
    return type(solution)(solution.linearization, **{**others, **point})


def direction(name: str, value: Any) -> Any:
    """A tangent or cotangent as an array of the core; what is neither tensor nor array on a GPU is left to it."""
    if isinstance(value, torch.Tensor) or exposes_cuda(value):
        return to_core(canonical(name, value))
    return value


def watched(tensors: Iterable[Any]) -> bool:
    """Whether autograd, in either mode, or torch.func looks at what is computed; otherwise its overhead is saved."""
    if torch.is_grad_enabled() and any(isinstance(tensor, torch.Tensor) and tensor.requires_grad for tensor in tensors):
        return True
    return forward_mode() or transformed()


def saved(ctx: Any) -> list[Any]:
    """The tensors that an autograd function has kept, for its `jvp`: without the tangents that are being looked at."""
    return [
        t if t is None or not t.is_floating_point() else forward_ad.unpack_dual(t).primal for t in ctx.saved_tensors
    ]


def precise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let the `backward` or `jvp` of an autograd function compute as it is told, under autocast too."""

    @wraps(function)
    def precise_function(ctx: Any, *arguments: Any) -> Any:
        if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
            return function(ctx, *arguments)
        device = next(tensor.device.type for tensor in ctx.saved_tensors if tensor is not None)
        with torch.autocast(device, enabled=False):
            return function(ctx, *arguments)

    return precise_function


def nestable(jvp: Callable[..., Any]) -> Callable[..., Any]:
    """Let forward mode look at the `jvp` of an autograd function, which is called with that switched off.

    Forward mode over forward mode would otherwise lose what the tangent depends on beside the tangents given. The
    function must take the tensors it has kept from `saved`.
    """

    @wraps(jvp)
    @precise
    def watched_jvp(*arguments: Any) -> Any:
        with forward_ad._set_fwd_grad_enabled(True):  # pyright: ignore[reportPrivateUsage]
            return jvp(*arguments)

    return watched_jvp


def forward_mode() -> bool:
    """Whether tangents may be under way, outside of torch.func."""
    return forward_ad._current_level >= 0  # pyright: ignore[reportPrivateUsage]


def transformed() -> bool:
    """Whether a transform of torch.func is under way: tensors may then not be what memory holds."""
    return torch._C._are_functorch_transforms_active()  # pyright: ignore[reportPrivateUsage]


def hidden(tensor: torch.Tensor) -> bool:
    """Whether a tensor's numbers cannot be looked at: it lies on a GPU, or a transform of torch.func is under way."""
    return not lies_on_host(tensor) or transformed()


def is_listed(tensor: torch.Tensor) -> bool:
    """Whether a tensor is one of many under the vmap of `torch.autograd.grad(is_grads_batched=True)`."""
    return torch._C._functorch.is_legacy_batchedtensor(tensor)  # pyright: ignore

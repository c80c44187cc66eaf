"""Independent jobs, on the cores of this machine or on a Dask cluster."""

import ctypes
import gc
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any

from joblib import Parallel, delayed

from miracle_lib.errors import MiracleError
from miracle_lib.extras import needs
from miracle_lib.progress import progress

if TYPE_CHECKING:
    from distributed import Client

_CLIENT: "ContextVar[Client | None]" = ContextVar("client", default=None)
_ONE = Lock()


@contextmanager
def cluster(scheduler: "str | Client | None") -> Iterator[None]:
    """Send all independent work of a block to a Dask cluster.

    Folds, permutations, seeds, pairs of cohorts and cells of a grid are spread; what is computed,
    and so every result, is the same as on one machine. A job whose worker dies is run again.

    Parameters
    ----------
    scheduler : str or distributed.Client, optional
        Address of a scheduler such as ``"tcp://10.0.0.1:8786"``, or a client. None: this machine.

    Raises
    ------
    MiracleError
        If Dask is not installed, or nothing answers at the address.

    Examples
    --------
    >>> with cluster(None):
    ...     list(spread(pow, [(2, 3), (3, 2)]))
    [8, 9]
    """
    if scheduler is None:
        yield
        return
    client = _connect(scheduler) if isinstance(scheduler, str) else scheduler
    token = _CLIENT.set(client)
    try:
        yield
    finally:
        _CLIENT.reset(token)
        if client is not scheduler:
            client.close()


def _connect(address: str) -> "Client":
    """Return a client of the scheduler at an address."""
    with needs("cluster", "A scheduler"):
        from distributed import Client
    try:
        return Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise MiracleError(
            f"No Dask scheduler answers at {address}: {error}; expected an address such as "
            "tcp://10.0.0.1:8786"
        ) from None


def spread(
    function: Callable[..., Any],
    jobs: Iterable[tuple],
    shared: Sequence[Any] = (),
    *,
    n_jobs: int = 1,
    ordered: bool = True,
    title: str = "jobs",
) -> Iterator[Any]:
    """Yield ``function(*job)`` for every job, from wherever the jobs run.

    Parameters
    ----------
    function : callable
        Importable by name, so that another process can run it.
    jobs : iterable of tuple
        Arguments of each job.
    shared : sequence, optional
        Objects that many jobs have among their arguments: a cluster gets each once per worker.
    n_jobs : int, default 1
        Processes on this machine; -1 for all cores. In a block of `cluster` all its workers count.
    ordered : bool, default True
        False: as they finish.
    title : str
        Of the progress bar.

    Raises
    ------
    MiracleError
        If the cluster has lost its workers; and whatever a job raises.
    """
    jobs, client = list(jobs), _CLIENT.get()
    if n_jobs != 1:
        give_back_memory()  # what it took to come here must not lie beside the other processes
    if client is None:
        kind = "generator" if ordered else "generator_unordered"
        done = Parallel(n_jobs, return_as=kind)(delayed(_tidily)(function, *job) for job in jobs)
    else:
        done = _on_workers(client, function, jobs, shared, ordered, title)
    yield from progress(done, title, len(jobs))


def _on_workers(
    client: "Client",
    function: Callable[..., Any],
    jobs: Sequence[tuple],
    shared: Sequence[Any],
    ordered: bool,
    title: str,
) -> Iterator[Any]:
    """Yield the results of jobs that the workers of a cluster run."""
    from distributed import KilledWorker, as_completed

    try:
        copies = client.scatter(list(shared), broadcast=True, hash=False) if shared else []
        held = {id(item): copy for item, copy in zip(shared, copies, strict=True)}
        futures = [
            client.submit(_alone, function, *(held.get(id(part), part) for part in job), pure=False)
            for job in jobs
        ]
        for future in futures if ordered else as_completed(futures, loop=client.loop):
            yield future.result()
    except (KilledWorker, CancelledError, TimeoutError) as error:
        raise MiracleError(
            f"The Dask cluster lost its workers while it ran {title} ({type(error).__name__}): too "
            "little memory per worker is the usual cause; what was stored is kept"
        ) from error


def _alone(function: Callable[..., Any], *job: Any) -> Any:
    """Run a job; one at a time in each process, since torch's random numbers are the process's."""
    with _ONE:
        return _tidily(function, *job)


def _tidily(function: Callable[..., Any], *job: Any) -> Any:
    """Run a job; the next one in the process finds as much memory as this one."""
    try:
        return function(*job)
    finally:
        _trim()


def give_back_memory() -> None:
    """Return what nothing refers to any more to the system."""
    gc.collect()
    _trim()


def _trim() -> None:
    """Make the GNU C library return free memory below used one: it keeps gigabytes over a run."""
    with suppress(AttributeError, TypeError):  # other systems have no such function
        ctypes.CDLL(None).malloc_trim(0)

"""The table of mutants: one changed place each, and the test files that must notice it. `mutants.py` applies them."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change.

    Attributes:
        name: for the command line and the table.
        what: what a user would meet, in words.
        file: path in the repository.
        before, after: the text that stands once in the file, and what takes its place.
        tests: names of the files in tests/ of which one must fail.
        equivalent: why no test can notice it; empty for all others.
    """

    name: str
    what: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    equivalent: str = ""


def _in(folder: str, *mutants: tuple) -> list[Mutant]:
    """Mutants of files in one folder of the package: (name, what, file in it, before, after, *tests)."""
    return [
        Mutant(name, what, f"jaxstyle/{folder}{file}", before, after, tuple(f"test_{test}.py" for test in tests))
        for name, what, file, before, after, *tests in mutants
    ]


SOLVERS = _in(
    "style/solvers/",
    ("armijo", "every finite step is accepted", "lbfgs.py",
     "accepted = finite & (first | (after <= before + ARMIJO * slope))", "accepted = finite", "lbfgs"),
    ("forget", "the curvature is never forgotten", "lbfgs.py",
     "hold(forgotten, forget(state, memory.gradient), state)", "hold(False, forget(state, memory.gradient), state)",
     "lbfgs"),
    ("refused-pairs", "pairs of negative curvature are kept", "lbfgs.py",
     "keep = accepted & ~first & (curvature > CURVED * jnp.linalg.norm(s) * jnp.linalg.norm(y))",
     "keep = accepted & ~first", "lbfgs"),
    ("halving", "a refused step is halved instead of interpolated", "lbfgs.py",
     "jnp.clip(parabola, *SHRINK)", "jnp.full_like(parabola, 0.5)", "lbfgs"),
    ("history-of-1", "the history holds one pair whatever --history says", "lbfgs.py",
     "row = state.written % self.history", "row = state.written % 1", "lbfgs"),
    ("history-option", "--history does not reach the solver", "__init__.py",
     'SolverKind("lbfgs:Lbfgs", ("history",)', 'SolverKind("lbfgs:Lbfgs", ()', "solvers"),
    ("ascent", "a direction that ascends is followed", "lbfgs.py",
     "ascends = ~(slope < 0)", "ascends = jnp.bool_(False)", "lbfgs"),
    ("first-step", "the first step of a second try is as long as that of a first", "lbfgs.py",
     "FIRST_STEP * step_scale", "FIRST_STEP", "lbfgs"),
    ("mean-pixel", "the border counts in the length of the first step", "lbfgs.py",
     "jnp.sum(jnp.abs(gradient)) / state.values", "jnp.mean(jnp.abs(gradient))", "lbfgs"),
    ("nan-gradient", "a gradient that is not finite is accepted", "lbfgs.py",
     "finite = jnp.isfinite(after) & jnp.isfinite(jnp.sum(y))", "finite = jnp.isfinite(after)", "lbfgs", "solvers"),
    ("adam-reset", "Adam's moments pass from a lane's image to its next one", "adam.py",
     "hold(first, self._engine().init(at.image), moved)", "moved", "solvers"),
    ("best-image", "Adam yields its last image, not its best", "base.py",
     "better(step.point, lane.best)", "step.point", "solvers"),
    ("risen-loss", "the tolerance looks at a loss that may have risen", "base.py",
     "loss = step.point.loss if best is None else best.loss", "loss = step.point.loss", "solvers"),
    ("tolerance", "the tolerance is absolute, not relative", "base.py",
     "tolerance * lane.window_loss)", "tolerance)", "solvers"),
    ("window", "the tolerance compares single ticks", "base.py",
     "window = evaluations // WINDOW > lane.evaluations // WINDOW", "window = evaluations > lane.evaluations",
     "solvers"),
    ("ended-lanes", "a lane that has ended goes on with its neighbours", "base.py",
     "return hold(running, after, lane._replace(memory=None))._replace(memory=step.memory)",
     "return hold(True, after, lane._replace(memory=None))._replace(memory=step.memory)", "solvers"),
)  # fmt: skip

OBJECTIVE = _in(
    "",
    ("layer-weights", "weights of the style layers in reverse order", "style/terms/gram.py",
     "zip(objective.style_layers, layer_weights(objective), strict=True)",
     "zip(objective.style_layers, layer_weights(objective)[::-1], strict=True)", "objective"),
    ("gram-positions", "Gram matrices are divided by the positions of the bucket", "style/terms/gram.py",
     "total / count(f.inside, total)", "total / f.inside.size", "border"),
    ("style-energy", "the style term is divided by the image's energy, not the painting's", "style/terms/gram.py",
     "jnp.maximum(sum_square(a), 1e-12)", "jnp.maximum(sum_square(g), 1e-12)", "objective"),
    ("content-mean", "content layers are added, not averaged", "style/terms/content.py",
     "jnp.mean(jnp.stack(losses))", "jnp.sum(jnp.stack(losses))", "objective"),
    ("content-energy", "the content term is divided by a sum, not a mean", "style/terms/content.py",
     "jnp.maximum(sum_square(wide(p)) / numbers, 1e-12)", "jnp.maximum(sum_square(wide(p)), 1e-12)", "objective"),
    ("content-positions", "the content term is divided by the positions of the bucket", "style/terms/content.py",
     "count(f.inside, p) * p.shape[-1]", "jnp.float32(p.size)", "border"),
    ("tv-inside", "total variation counts the border", "style/terms/variation.py",
     "jnp.where(inside[..., None], (corner - below) ** 2 + (corner - right) ** 2, 0)",
     "(corner - below) ** 2 + (corner - right) ** 2", "border"),
    ("conv-inside", "convolutions see the border", "model/ops.py",
     "return y if inside is None else jnp.where(inside[..., None], y, 0)", "return y", "border"),
    ("pool-inside", "average pooling counts positions outside", "model/ops.py",
     "total / jnp.maximum(number, 1)[..., None]", "total / 4", "border"),
    ("refill-content", "a refilled lane keeps the content of the picture before", "style/batch.py",
     "return Batch(lanes, content, inside, self.style if self.shared else style, self.shared)",
     "return Batch(lanes, self.content, inside, self.style if self.shared else style, self.shared)", "device"),
    ("refill-inside", "a refilled lane keeps the extent of the picture before", "style/batch.py",
     "return Batch(lanes, content, inside, self.style if self.shared else style, self.shared)",
     "return Batch(lanes, content, self.inside, self.style if self.shared else style, self.shared)", "device"),
    ("two-styles", "a batch takes its first lane's style for all", "style/stylizer.py",
     "shared = all(one.targets.style is started[0].targets.style for one in started)", "shared = True", "stylize"),
    ("noise-seed", "--seed does not change the noise", "style/initial.py",
     '{seed}\\0{key}"', '{key}"', "stylize"),
)  # fmt: skip

ENGINE = _in(
    "engine/",
    ("later-stage", "a later stage with a full batch does not go first", "queues.py",
     "group.stage if self._full(group) else 0", "0", "stages"),
    ("overtaken", "earlier stages are refilled while a later one waits", "queues.py",
     "return any(other.stage > group.stage and self._full(other) for other in self._pending)", "return False",
     "stages"),
    ("window-of-jobs", "the planner never waits", "queues.py",
     "self._stopped or self._pending.total() < self._window)", "True)", "queues"),
    ("requeue", "a picture that turns out to lie on its side is lost", "stages.py",
     "shared.queues.requeue(task.job)", "pass", "runs"),
    ("ended-bound", "six lanes may wait to be published, whatever the batch", "stages.py",
     "shared.ended.maxsize = 2 * batch", "shared.ended.maxsize = 6", "engine"),
    ("most-pixels", "after out of memory the next shape begins with a full batch again", "stages.py",
     "self._most_pixels // (bucket[0] * bucket[1]) // count * count", "wanted", "runs"),
    ("precision", "the precision of the device is not recorded", "stages.py",
     "record_precision(shared.ready.output, self._device.precision)", "pass", "engine"),
    ("second-try", "what comes out wrong is not tried again", "publish.py",
     "return None if job.first_problem else job.second_try(wrong)", "return None", "engine"),
    ("stalled", "a lane that stalled at its start counts as done", "publish.py",
     "if ended.status == Status.STALLED and not loss < IMPROVED * result.start_loss:", "if False:", "engine"),
    ("no-better", "an image that is no better than its start counts as done", "publish.py",
     "if ended.evaluations > 1 and not loss < result.start_loss:", "if False:", "engine"),
    ("black", "a black image counts as done", "publish.py", "if shown.max() <= BLACK:", "if False:", "engine"),
    ("border-published", "outputs include the border of their bucket", "publish.py",
     "return ended.result.image[:height, :width]", "return ended.result.image", "render"),
    ("chunk", "a chunk is ten ticks, however long they take", "lanes.py",
     "round(CHUNK_SECONDS * ticks / max(chunk, 1e-6))", "10", "lanes"),
    ("compiling", "compiling counts as a call that hangs", "lanes.py",
     "self.since = None if compiles else time.monotonic()", "self.since = time.monotonic()", "lanes"),
    ("lost-images", "images on the device when its memory runs out are lost", "lanes.py",
     "again.extend(lost)", "pass", "lanes_memory"),
    ("halved", "out of memory, the batch shrinks by one device's lane", "lanes.py",
     "batch_sizes(size, count)[1]", "size - count", "lanes_memory"),
    ("taken-back", "evaluations of a lost batch stay in the progress", "lanes.py",
     'self._report(-spent, float("nan"))', "pass", "lanes_memory"),
    ("rows-first", "rows are kept before their outputs are durable", "threads.py",
     "        if written:\n            self._shared.ready.sink.commit(written)\n        if rows:\n"
     "            self._keep(rows)\n",
     "        if rows:\n            self._keep(rows)\n        if written:\n"
     "            self._shared.ready.sink.commit(written)\n", "memory_io", "render"),
    ("old-output", "the output of an input that is no picture any more stays", "pipeline.py",
     'if changed and past is not None and past.status == "done":', "if False:", "engine"),
)  # fmt: skip

PLANNING = _in(
    "planning/",
    ("stage-budget", "evaluations of earlier stages are not added up", "plan.py",
     "evaluations_before=self.evaluations_before + evaluations", "evaluations_before=evaluations", "stages"),
    ("second-try-stage", "a second try begins at the stage that failed", "plan.py",
     "self, stage=0, previous=None,", "self, stage=self.stage, previous=None,", "stages"),
    ("shard", "the inputs of one shard belong to none", "plan.py", "% parts == index - 1", "% parts == index", "plan"),
    ("reserved", "an input named manifest.jsonl overwrites the manifest", "plan.py",
     "if is_reserved(one.key):", "if False:", "plan"),
    ("bucket", "pictures as long as a bucket get the next larger one", "buckets.py",
     "side >= long)", "side > long)", "plan"),
    ("batch-fits", "a batch that was asked for is tried whether it fits or not", "batches.py",
     "min(int(asked), device.max_batch(bucket))", "int(asked)", "contract"),
    ("lost-output", "an output that was deleted is not made again", "preflight.py",
     " and ready.sink.has(one.key)", "", "render"),
    ("changed-input", "another picture of the same length is taken for finished", "preflight.py",
     "return ledger.checksum_bits(digest.hexdigest()) == past.checksum", "return True", "runs"),
)  # fmt: skip

DATA = _in(
    "",
    ("fsync", "a file is renamed before its content is on the disk", "data/sinks/folders.py",
     "                os.fsync(file.fileno())\n            os.replace(temporary, path)",
     "                os.replace(temporary, path)\n                os.fsync(file.fileno())", "sink"),
    ("no-fsync", "a file's content is not synced", "data/sinks/folders.py",
     "                file.flush()\n                os.fsync(file.fileno())\n",
     "                file.flush()\n", "sink"),
    ("commit", "a power loss undoes the renames of committed outputs", "data/sinks/folders.py",
     "for folder in {(self._output / key).parent for key in keys}:", "for folder in ():", "folder_sink"),
    ("sweep-own", "a run sweeps the file that it is writing", "data/sinks/folders.py",
     " and _own not in name", "", "sink"),
    ("row-fsync", "rows are not on the disk when `append` returns", "data/manifest.py",
     "os.fsync(self._file.fileno())", "pass", "manifest"),
    ("torn-row", "a row that did not fit stays in the way of the next", "data/manifest.py",
     "os.ftruncate(self._file.fileno(), self._end)", "pass", "manifest"),
    ("torn-line", "a torn last line is an error", "data/ledger.py",
     'if not line.endswith(b"\\n"):', "if False:", "ledger"),
    ("first-row", "the first row of a key counts, not the last", "data/ledger.py",
     "keys, backwards = np.unique(every[::-1], return_index=True)\n    return keys, len(every) - 1 - backwards",
     "keys, first = np.unique(every, return_index=True)\n    return keys, first", "ledger"),
    ("compact-order", "shards' rows lie below those of the manifest, whichever are newer", "data/ledger.py",
     "for _, name in sorted(shards)]", "for _, name in sorted(shards, reverse=True)]", "ledger"),
    ("fingerprint", "a run with other settings is let into a folder", "data/fingerprint.py",
     "for name, (now, then) in pairs.items() if now != then]", "for name, (now, then) in pairs.items() if False]",
     "fingerprint"),
    ("new-setting", "a setting that the folder does not know is not compared", "data/fingerprint.py",
     "for name in here | there}", "for name in there}", "fingerprint"),
    ("mixed-precision", "one folder holds two precisions", "data/fingerprint.py",
     "elif there != precision:", "elif False:", "fingerprint"),
    ("rows-forgotten", "old rows stand beside new settings after a kill", "data/fingerprint.py",
     "        forget(output)\n    else:\n        compare(output, run)\n"
     "    if overwrite or _read(output) is None:\n"
     '        _write(output, _as_json({"decides": run.decides, "about": run.about}))',
     "        pass\n    else:\n        compare(output, run)\n"
     "    if overwrite or _read(output) is None:\n"
     '        _write(output, _as_json({"decides": run.decides, "about": run.about}))\n'
     "        overwrite and forget(output)", "fingerprint"),
    ("reserved-case", "MANIFEST.JSONL is no reserved name", "data/layout.py",
     'key.casefold().split("/")', 'key.split("/")', "layout"),
    ("whole-number", "a row's number may be too large for the ledger", "data/rows.py",
     "if type(value) is not int or not -(2**63) < value < 2**63:", "if type(value) is not int:", "rows", "ledger"),
    ("status", "a row may have any status", "data/rows.py", "if value not in STATUSES:", "if False:", "rows"),
    ("checksum", "a row's checksum may be half as long", "data/rows.py",
     "if len(bytes.fromhex(value)) not in (0, 32):", "if not bytes.fromhex(value) and value:", "rows"),
    ("partitions", "shards of two partitions run side by side", "data/lock.py",
     "return one == other or one[1] != other[1]", "return one == other", "lock"),
    ("begin", "a run begins after the mutex is free", "data/lock.py",
     "            if begin is not None:\n                begin()\n",
     "        if begin is not None:\n            begin()\n", "lock"),
    ("lock-removed", "a lock file is removed without the mutex", "data/lock.py",
     "            with mutex(output):\n                own.release()",
     "            if True:\n                own.release()", "lock"),
    ("nofollow", "a link in the place of the manifest is followed", "data/opening.py",
     ' | getattr(os, "O_NOFOLLOW", 0)', "", "layout"),
    ("nonblock", "a pipe in the place of the manifest stops the run", "data/opening.py",
     "    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):", "    if False:", "layout"),
    ("verify-checksum", "`verify` believes an output of the recorded length", "data/audit.py",
     'hexdigest() != row.output_sha256:', "hexdigest() == '':", "audit"),
    ("decoder-change", "a decoder does not notice that its file changes", "decode/worker.py",
     "if _stat(file) != before:", "if False:", "worker"),
    ("decoder-process", "a decoder process tells an error as another one", "decode/worker.py",
     'return {"what": _plain(error.what), ', 'return {"what": "cannot be decoded", ', "pool"),
    ("exit-code", "`python -m jaxstyle` exits with 0 after an error", "cli.py",
     "code = error.exit_code", "code = EXIT_OK", "cli"),
)  # fmt: skip

MUTANTS = [*SOLVERS, *OBJECTIVE, *ENGINE, *PLANNING, *DATA]

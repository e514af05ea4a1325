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
        tests: files in tests/, or FILE::TEST where a file takes long; one test must fail.
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
    """Mutants of files in one folder of the package: (name, what, file in it, before, after, *tests).

    Tests are named in short: "x" for test_x.py, and "x::y" for its test_y.
    """
    return [
        Mutant(name, what, f"jaxstyle/{folder}{file}", before, after, tuple(map(_test, tests)))
        for name, what, file, before, after, *tests in mutants
    ]


def _test(short: str) -> str:
    file, _, name = short.partition("::")
    return f"test_{file}.py" + (f"::test_{name}" if name else "")


SOLVERS = _in(
    "style/solvers/",
    ("armijo", "every finite step is accepted", "lbfgs.py",
     "accepted = finite & (first | (after <= before + ARMIJO * slope))", "accepted = finite",
     "lbfgs::a_step_that_falls_less_than_armijo_asks_is_rejected"),
    ("forget", "the curvature is never forgotten", "lbfgs.py",
     "hold(forgotten, forget(state, memory.gradient), state)", "hold(False, forget(state, memory.gradient), state)",
     "lbfgs::after_eight_rejections_the_curvature_is_forgotten_and_without_any_the_lane_has_stalled"),
    ("refused-pairs", "pairs of negative curvature are kept", "lbfgs.py",
     "keep = accepted & ~first & (curvature > CURVED * jnp.linalg.norm(s) * jnp.linalg.norm(y))",
     "keep = accepted & ~first", "lbfgs::a_pair_without_positive_curvature_is_not_kept_though_its_step_is"),
    ("halving", "a refused step is halved instead of interpolated", "lbfgs.py",
     "jnp.clip(parabola, *SHRINK)", "jnp.full_like(parabola, 0.5)",
     "lbfgs::a_rejected_step_is_shortened_to_the_minimum_of_the_parabola"),
    ("history-of-1", "the history holds one pair whatever --history says", "lbfgs.py",
     "row = state.written % self.history", "row = state.written % 1", "lbfgs::the_tick_is_l_bfgs_step_by_step"),
    ("history-option", "--history does not reach the solver", "__init__.py",
     'SolverKind("lbfgs:Lbfgs", ("history",)', 'SolverKind("lbfgs:Lbfgs", ()',
     "solvers::a_solver_takes_its_own_options_from_the_settings"),
    ("ascent", "a direction that ascends is followed", "lbfgs.py",
     "ascends = ~(slope < 0)", "ascends = jnp.bool_(False)",
     "lbfgs::a_direction_that_ascends_is_answered_by_forgetting_the_curvature"),
    ("first-step", "the first step of a second try is as long as that of a first", "lbfgs.py",
     "FIRST_STEP * step_scale", "FIRST_STEP", "lbfgs::the_tick_is_l_bfgs_step_by_step"),
    ("mean-pixel", "the border counts in the length of the first step", "lbfgs.py",
     "jnp.sum(jnp.abs(gradient)) / state.values", "jnp.mean(jnp.abs(gradient))",
     "lbfgs::the_first_step_is_a_mean_over_the_pixels_that_are_optimised"),
    ("nan-gradient", "a gradient that is not finite is accepted", "lbfgs.py",
     "finite = jnp.isfinite(after) & jnp.isfinite(jnp.sum(y))", "finite = jnp.isfinite(after)",
     "lbfgs::a_gradient_that_is_not_finite_is_refused"),
    ("adam-reset", "Adam's moments pass from a lane's image to its next one", "adam.py",
     "hold(first, self._engine().init(at.image), moved)", "moved",
     "solvers::a_lane_does_not_depend_on_what_an_earlier_image_left_in_its_memory"),
    ("best-image", "Adam yields its last image, not its best", "base.py",
     "better(step.point, lane.best)", "step.point", "solvers::adam_yields_its_best_image_when_the_loss_rises"),
    ("risen-loss", "the tolerance looks at a loss that may have risen", "base.py",
     "loss = step.point.loss if best is None else best.loss", "loss = step.point.loss",
     "solvers::the_tolerance_looks_at_the_best_loss"),
    ("tolerance", "the tolerance is absolute, not relative", "base.py",
     "tolerance * lane.window_loss)", "tolerance)", "solvers::the_tolerance_is_relative_and_over_a_window"),
    ("window", "the tolerance compares single ticks", "base.py",
     "window = evaluations // WINDOW > lane.evaluations // WINDOW", "window = evaluations > lane.evaluations",
     "solvers::the_tolerance_is_relative_and_over_a_window"),
    ("ended-lanes", "a lane that has ended goes on with its neighbours", "base.py",
     "return hold(running, after, lane._replace(memory=None))._replace(memory=step.memory)",
     "return hold(True, after, lane._replace(memory=None))._replace(memory=step.memory)",
     "solvers::an_ended_lane_stays_as_it_is"),
)  # fmt: skip

OBJECTIVE = _in(
    "",
    ("layer-weights", "weights of the style layers in reverse order", "style/terms/gram.py",
     "zip(objective.style_layers, layer_weights(objective), strict=True)",
     "zip(objective.style_layers, layer_weights(objective)[::-1], strict=True)",
     "objective::all_terms_together_with_unequal_weights_and_two_content_layers"),
    ("gram-positions", "Gram matrices are divided by the positions of the bucket", "style/terms/gram.py",
     "total / count(f.inside, total)", "total / f.inside.size",
     "border::a_photograph_comes_out_the_same_from_three_buckets"),
    ("style-energy", "the style term is divided by the image's energy, not the painting's", "style/terms/gram.py",
     "jnp.maximum(sum_square(a), 1e-12)", "jnp.maximum(sum_square(g), 1e-12)",
     "objective::all_terms_together_with_unequal_weights_and_two_content_layers"),
    ("content-mean", "content layers are added, not averaged", "style/terms/content.py",
     "jnp.mean(jnp.stack(losses))", "jnp.sum(jnp.stack(losses))",
     "objective::all_terms_together_with_unequal_weights_and_two_content_layers"),
    ("content-energy", "the content term is divided by a sum, not a mean", "style/terms/content.py",
     "jnp.maximum(sum_square(wide(p)) / numbers, 1e-12)", "jnp.maximum(sum_square(wide(p)), 1e-12)",
     "objective::all_terms_together_with_unequal_weights_and_two_content_layers"),
    ("content-positions", "the content term is divided by the positions of the bucket", "style/terms/content.py",
     "count(f.inside, p) * p.shape[-1]", "jnp.float32(p.size)",
     "border::a_photograph_comes_out_the_same_from_three_buckets"),
    ("tv-inside", "total variation counts the border", "style/terms/variation.py",
     "jnp.where(inside[..., None], (corner - below) ** 2 + (corner - right) ** 2, 0)",
     "(corner - below) ** 2 + (corner - right) ** 2", "border::a_photograph_comes_out_the_same_from_three_buckets"),
    ("conv-inside", "convolutions see the border", "model/ops.py",
     "return y if inside is None else jnp.where(inside[..., None], y, 0)", "return y",
     "border::maps_inside_are_those_of_the_picture_alone"),
    ("pool-inside", "average pooling counts positions outside", "model/ops.py",
     "total / jnp.maximum(number, 1)[..., None]", "total / 4",
     "ops::pooling_keeps_an_odd_last_row_and_column_of_the_picture"),
    ("refill-content", "a refilled lane keeps the content of the picture before", "style/batch.py",
     "return Batch(lanes, content, inside, self.style if self.shared else style, self.shared)",
     "return Batch(lanes, self.content, inside, self.style if self.shared else style, self.shared)",
     "border::a_refilled_lane_takes_everything_from_its_new_picture"),
    ("refill-inside", "a refilled lane keeps the extent of the picture before", "style/batch.py",
     "return Batch(lanes, content, inside, self.style if self.shared else style, self.shared)",
     "return Batch(lanes, content, self.inside, self.style if self.shared else style, self.shared)",
     "border::a_refilled_lane_takes_everything_from_its_new_picture"),
    ("two-styles", "a batch takes its first lane's style for all", "style/stylizer.py",
     "shared = all(one.targets.style is started[0].targets.style for one in started)", "shared = True",
     "stylize::a_batch_of_two_styles_equals_the_single_runs"),
    ("noise-seed", "--seed does not change the noise", "style/initial.py",
     '{seed}\\0{key}"', '{key}"', "stylize::noise_depends_on_seed_and_name_only"),
)  # fmt: skip

ENGINE = _in(
    "engine/",
    ("later-stage", "a later stage with a full batch does not go first", "queues.py",
     "group.stage if self._full(group) else 0", "0",
     "stages::a_later_stage_with_a_full_batch_goes_first_and_ends_the_refilling_of_earlier_ones"),
    ("overtaken", "earlier stages are refilled while a later one waits", "queues.py",
     "return any(other.stage > group.stage and self._full(other) for other in self._pending)", "return False",
     "stages::a_later_stage_with_a_full_batch_goes_first_and_ends_the_refilling_of_earlier_ones"),
    ("window-of-jobs", "the planner never waits", "queues.py",
     "self._stopped or self._pending.total() < self._window)", "True)", "queues"),
    ("requeue", "a picture that turns out to lie on its side is lost", "stages.py",
     "shared.queues.requeue(task.job)", "pass",
     "runs::a_png_that_says_late_that_it_lies_on_its_side_is_rendered_upright"),
    ("ended-bound", "six lanes may wait to be published, whatever the batch", "stages.py",
     "shared.ended.maxsize = 2 * batch", "shared.ended.maxsize = 6",
     "engine::all_lanes_of_a_batch_may_end_while_the_disk_is_slow"),
    ("most-pixels", "after out of memory the next shape begins with a full batch again", "stages.py",
     "self._most_pixels // (bucket[0] * bucket[1]) // count * count", "self._wanted(bucket)",
     "runs::a_bucket_after_one_that_ran_out_of_memory_begins_with_no_more_pixels"),
    ("precision", "the precision of the device is not recorded", "stages.py",
     "record_precision(folder, self._device.precision, self._device.name)", "self._device.name",
     "engine::the_precision_that_auto_has_come_to_is_recorded"),
    ("second-try", "what comes out wrong is not tried again", "publish.py",
     "return None if job.first_problem else job.second_try(wrong)", "return None",
     "engine::what_comes_out_wrong_is_tried_once_more_and_never_called_done"),
    ("one-size", "the last images move to smaller batches unasked", "lanes.py",
     "self._smaller(group, filled, again) if self._shrink else None", "self._smaller(group, filled, again)", "lanes"),
    ("first-size", "few images begin in a small batch unasked", "lanes.py",
     "if self._shrink else batch, filled", "if True else batch, filled", "lanes"),
    ("free-memory", "the memory that is free at the moment decides the batch", "device.py",
     "            return host.total_memory()\n", "            return host.host_memory()\n", "device"),
    ("told-halved", "an image of a halved batch does not say so", "stages.py",
     "if 0 < first <= self._batch(group.bucket) < wanted:", "if False:", "engine"),
    ("stalled", "a lane that stalled at its start counts as done", "judge.py",
     'if ended.status == Status.STALLED and found["fall"] < STALLED:', "if False:", "judge"),
    ("no-better", "an image that is no better than its start counts as done", "judge.py",
     'if found["fall"] < ROUNDING.get(result.precision, 0.0):', "if False:", "judge"),
    ("unmoved", "an image that equals its start counts as done", "judge.py",
     'if found["moved"] < UNMOVED and not ended.task.job.stage:', "if False:", "judge"),
    ("black", "a black image counts as done", "judge.py",
     "if bright < FAINT * min(least):", "if False:", "judge"),
    ("white", "a white image counts as done", "judge.py",
     "if 255 - bright < FAINT * (255 - max(least)):", "if False:", "judge"),
    ("flat", "an image of one colour counts as done", "judge.py",
     'if found["spread"] < FAINT * min(spreads):', "if False:", "judge"),
    ("saturated", "an image of black and white values counts as done", "judge.py",
     "if found[\"saturated\"] > SATURATED + (1 - SATURATED) * max(saturation(content), saturation(style)):",
     "if False:", "judge"),
    ("watchdog", "a call of storage that hangs is not noticed", "watchdog.py",
     "if now - max(call.began, awake) > self._limit + call.extra:", "if False:",
     "watchdog::what_takes_too_long_is_named"),
    ("second-signal", "a second signal waits for the main thread's call", "stop.py",
     "end_process(QUIT, 128 + self._stop.signal)", "pass",
     "watchdog::a_second_signal_ends_a_run_whose_main_thread_hangs"),
    ("border-published", "outputs include the border of their bucket", "judge.py",
     "return ended.result.image[:height, :width]", "return ended.result.image",
     "stages::every_picture_goes_through_both_stages"),
    ("chunk", "a chunk is ten ticks, however long they take", "lanes.py",
     "round(CHUNK_SECONDS * ticks / max(chunk, 1e-6))", "10", "lanes"),
    ("compiling", "compiling counts as a call that hangs", "lanes.py",
     "(COMPILE_SECONDS if compiles else 0)", "0", "lanes"),
    ("lost-images", "images on the device when its memory runs out are lost", "lanes.py",
     "again.extend(lost)", "pass", "lanes_memory"),
    ("halved", "out of memory, the batch shrinks by one device's lane", "lanes.py",
     "batch_sizes(size, count)[1]", "size - count", "lanes_memory"),
    ("taken-back", "evaluations of a lost batch stay in the progress", "lanes.py",
     'self._report(-spent, float("nan"))', "pass", "lanes_memory"),
    ("rows-first", "rows are kept before their outputs are durable", "threads.py",
     "            if written:\n"
     "                self._shared.ready.sink.commit(written)\n"
     "            if rows:\n"
     "                self._keep(rows)\n",
     "            if rows:\n"
     "                self._keep(rows)\n"
     "            if written:\n"
     "                self._shared.ready.sink.commit(written)\n", "memory_io"),
    ("old-output", "the output of an input that is no picture any more stays", "pipeline.py",
     'if changed and past is not None and past.status == "done":', "if False:",
     "engine::an_output_goes_when_its_input_has_become_rubbish"),
)  # fmt: skip

LOOK = _in(
    "",
    ("strength", "outputs show the style in full whatever the strength", "engine/publish.py",
     "pixels = pixels if settings.strength == 1 else", "pixels = pixels if True else",
     "colours::strength_mixes_the_photograph_in"),
    ("gray", "with luminance, the content image keeps its colours", "engine/prepare.py",
     "content = luminance(photograph)", "content = photograph",
     "colours::luminance_computes_in_gray_and_gives_the_photographs_colours"),
    ("gamut", "colours outside are clipped", "style/colour.py",
     "if not (fits := _fits(lab)).all():", "fits = 1\n    if False:",
     "colours::colours_come_back_and_those_outside_keep_their_lightness"),
    ("shared-style", "styles in the photograph's colours share the first one's targets", "planning/styles.py",
     "None if self._settings.changes_styles else self.one", "self.one", "colours::targets_are_shared_only_where_all_images_have_the_same"),
)  # fmt: skip

REGIONS = _in(
    "",
    ("region-weights", "every region has the Gram matrix of the whole picture", "model/ops.py",
     "(features * weights[:, None]).T, features", "features.T, features",
     "regions::the_guided_gram_term_is_that_of_the_paper_at_two_layers"),
    ("region-gradient", "the gradient of a region acts on the whole picture", "model/ops.py",
     ".astype(features.dtype)) * weights[:, None], None", ".astype(features.dtype)), None",
     "regions::the_gradient_of_a_region_does_not_depend_on_the_style_of_another"),
    ("region-shares", "a small region weighs as much as a large one", "style/terms/gram.py",
     "shares = sums / jnp.maximum(jnp.sum(sums), LEAST)", "shares = jnp.ones_like(sums) / len(sums)",
     "regions::the_guided_gram_term_is_that_of_the_paper_at_two_layers"),
    ("region-labels", "regions of a photograph are numbered by its own colours", "engine/prepare.py",
     "labels = masks.labels(mask, style.colours)", "labels = masks.labels(mask, found)",
     "regions::labels_are_the_styles_also_where_a_photograph_has_fewer"),
    ("kept-edge", "the soft edge reaches into what is kept", "planning/masks.py",
     "grown = _sums(_sums(kept.astype(np.int64), radius, 0), radius, 1) > 0", "grown = kept",
     "regions::what_is_kept_is_the_photograph_to_the_bit_and_its_edge_is_soft"),
    ("mask-change", "a mask that was painted over leaves its photograph as it is", "planning/preflight.py",
     "if ledger.checksum_bits(masked) != past.masks:", "if False:",
     "regions::a_mask_that_is_painted_over_has_its_photograph_rendered_again"),
    ("mask-aspect", "a mask of another shape is stretched", "planning/masks.py",
     "if abs(width * header.height - height * header.width) > max(header.width, header.height):", "if False:",
     "regions::photographs_whose_masks_cannot_be_used_are_rows_that_say_why"),
)  # fmt: skip

PLANNING = _in(
    "planning/",
    ("broken-style", "images of a broken style get another that is broken", "assign.py",
     "if order[at] not in self._broken:", "if True:", "styles::images_of_broken_styles_get_the_next_ones_whenever_they_are_found_broken"),
    ("rendezvous", "a new style moves images between the old ones", "assign.py",
     "mixed = _mix(self._hashes ^ np", "mixed = _mix(self._hashes * np.uint64(len(self._keys)) ^ np",
     "styles::a_new_style_takes_only_the_images_that_it_gets"),
    ("balance", "balanced styles are hashed", "assign.py",
     "at * GOLDEN + offset", "_hash(\"x\", image) + offset",
     "styles::balanced_is_even_within_each_folder_and_random_is_not"),
    ("style-change", "a painting that was painted over leaves its images as they are", "preflight.py",
     "if one.failed or (one.style and not ready.styles.is_unchanged(one.style, past)):", "if one.failed:",
     "many_styles::a_painting_that_was_painted_over_has_its_images_rendered_again"),
    ("broken-known", "a broken style is decoded in every run", "styles.py",
     "            self.assignment.lose(n)\n            lost.append(file.key)", "            lost.append(file.key)",
     "many_styles::a_broken_painting_is_known_to_the_next_run_until_it_changes"),
    ("position", "a shard counts its own images for cycle", "plan.py",
     "        position = positions(one.key)\n        if in_shard(one.key, part):",
     "        if in_shard(one.key, part):\n            position = positions(one.key)",
     "many_styles::cycle_gives_a_folders_images_one_style_after_the_other"),
    ("stage-budget", "evaluations of earlier stages are not added up", "plan.py",
     "evaluations_before=self.evaluations_before + evaluations", "evaluations_before=evaluations",
     "stages::a_job_moves_through_its_stages_and_begins_again_from_the_first"),
    ("second-try-stage", "a second try begins at the stage that failed", "plan.py",
     "self, stage=0, previous=None,", "self, stage=self.stage, previous=None,",
     "stages::a_job_moves_through_its_stages_and_begins_again_from_the_first"),
    ("shard", "the inputs of one shard belong to none", "plan.py",
     "% parts == index - 1", "% parts == index", "plan::every_input_is_in_one_shard_whatever_else_there_is"),
    ("reserved", "an input named manifest.jsonl overwrites the manifest", "plan.py",
     "if is_reserved(one.key):", "if False:", "plan::names_that_the_run_needs_for_itself_fail"),
    ("bucket", "pictures as long as a bucket get the next larger one", "buckets.py",
     "side >= long)", "side > long)", "plan::known_pictures"),
    ("batch-fits", "a batch that was asked for is tried whether it fits or not", "batches.py",
     "min(int(asked), device.max_batch(bucket))", "int(asked)", "contract"),
    ("lost-output", "an output that was deleted is not made again", "preflight.py",
     " and ready.sink.has(one.key)", "", "render::a_lost_output_is_rendered_again"),
    ("changed-input", "another picture of the same length is taken for finished", "preflight.py",
     "return ledger.checksum_bits(digest.hexdigest()) == past.checksum", "return True",
     "runs::another_picture_of_the_same_length_is_rendered_and_a_copy_of_the_same_is_not"),
)  # fmt: skip

DATA = _in(
    "",
    ("fsync", "a file is renamed before its content is on the disk", "data/writing.py",
     "            finish(file)\n"
     "            os.replace(temporary, name, src_dir_fd=folder.handle, dst_dir_fd=folder.handle)",
     "            os.replace(temporary, name, src_dir_fd=folder.handle, dst_dir_fd=folder.handle)\n"
     "            finish(file)", "sink"),
    ("no-fsync", "a file's content is not synced", "data/writing.py",
     "    os.fsync(file.fileno())\n", "", "sink", "folder_sink"),
    ("commit", "a power loss undoes the renames of committed outputs", "data/sinks/folders.py",
     "                    sync(at, path)\n", "", "folder_sink"),
    ("sweep-own", "a run sweeps the file that it is writing", "data/sinks/folders.py",
     " and not is_own(name)", "", "sink"),
    ("links", "outputs are written through links", "data/folder.py",
     "_WALK = _DIRECTORY | NOT_THROUGH_LINKS |", "_WALK = _DIRECTORY |", "places"),
    ("mounted", "outputs are written into input folders that are mounted below OUT", "data/sinks/guard.py",
     "any(place.overlaps(other) for other in self._places)", "False", "places"),
    ("named", "an output is written over its own input", "data/sinks/guard.py",
     "identity(there) in self._files or identity(there) in self._named(key)", "identity(there) in self._files",
     "places"),
    ("moved", "a folder that is replaced during the run is not noticed", "data/folder.py",
     "moved = identity(os.stat(self._absolute)) != self.identity", "moved = False", "places", "manifest"),
    ("one-name", "a name that is too long ends the run", "data/sinks/folders.py",
     "of_the_picture = error.errno in OF_A_NAME or ", "of_the_picture = ", "places"),
    ("full-finished", "a finished folder on a full disk exits 5", "data/sinks/folders.py",
     "if there == output.absolute() and any(map(is_ledger, os.listdir(there))):", "if False:", "places", "sink"),
    ("boot", "a process of another boot or container is taken for dead", "data/identity.py",
     "if not is_here(record) or ", "if ", "lock"),
    ("local-locks", "flock of NFS without locks is believed", "data/mounts.py",
     "not mount.options & _LOCAL_LOCKS and ", "", "lock"),
    ("trusted", "a cache below a folder that others may write to is used", "trust.py",
     "if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:", "if False:", "trust"),
    ("row-fsync", "rows are not on the disk when `append` returns", "data/manifest.py",
     "os.fsync(self._file.fileno())", "pass", "manifest"),
    ("torn-row", "a row that did not fit stays in the way of the next", "data/manifest.py",
     "os.ftruncate(self._file.fileno(), self._end)", "pass", "manifest"),
    ("torn-line", "a torn last line is an error", "data/ledger.py",
     'if not line.endswith(b"\\n"):', "if False:", "ledger"),
    ("first-row", "the first row of a key counts, not the last", "data/ledger.py",
     "last = len(every) - 1 - backwards", "last = np.unique(every, return_index=True)[1]", "ledger"),
    ("run-order", "ledgers' times decide which row is newer", "data/ledger.py",
     "if (runs[1:] < runs[:-1]).any():", "if False:", "ledger"),
    ("compact-order", "shards' rows lie below those of the manifest, whichever are newer", "data/ledger.py",
     "for _, name in sorted(shards)]", "for _, name in sorted(shards, reverse=True)]", "ledger"),
    ("fingerprint", "a run with other settings is let into a folder", "data/fingerprint.py",
     "for name, (now, then) in pairs.items() if now != then]", "for name, (now, then) in pairs.items() if False]",
     "fingerprint"),
    ("new-setting", "a setting that the folder does not know is not compared", "data/fingerprint.py",
     "for name in here | there}", "for name in there}", "fingerprint"),
    ("mixed-precision", "one folder holds two precisions", "data/fingerprint.py",
     "if there != precision:", "if False:", "fingerprint"),
    ("rows-forgotten", "old rows stand beside new settings after a kill", "data/fingerprint.py",
     "        forget(output)\n"
     "    else:\n"
     "        compare(output, run)\n"
     "    if overwrite or _read(output) is None:\n"
     '        _write(output, _as_json({"decides": run.decides, "about": run.about}))',
     "        pass\n"
     "    else:\n"
     "        compare(output, run)\n"
     "    if overwrite or _read(output) is None:\n"
     '        _write(output, _as_json({"decides": run.decides, "about": run.about}))\n'
     "        overwrite and forget(output)", "fingerprint"),
    ("reserved-case", "MANIFEST.JSONL is no reserved name", "data/layout.py",
     'key.casefold().split("/")', 'key.split("/")', "layout"),
    ("whole-number", "a row's number may be too large for the ledger", "data/rows.py",
     "if type(value) is not int or not -(2**63) < value < 2**63:", "if type(value) is not int:", "rows", "ledger"),
    ("status", "a row may have any status", "data/rows.py",
     "if value not in STATUSES:", "if False:", "rows"),
    ("checksum", "a row's checksum may be half as long", "data/rows.py",
     "if len(bytes.fromhex(value)) not in (0, 32):", "if not bytes.fromhex(value) and value:", "rows"),
    ("partitions", "shards of two partitions run side by side", "data/lock.py",
     "return one == other or one[1] != other[1]", "return one == other", "lock::who_excludes_whom"),
    ("begin", "a run begins after the mutex is free", "data/lock.py",
     "        if begin is not None:\n            begin()\n    return mine",
     "    if begin is not None:\n        begin()\n    return mine",
     "lock::runs_begin_one_at_a_time_with_the_lock_held"),
    ("lock-removed", "a lock file is removed without the mutex", "data/lock.py",
     "                with mutex(folder):\n                    _remove(folder, record)",
     "                if True:\n                    _remove(folder, record)",
     "lock::a_lock_file_is_removed_with_the_mutex_held"),
    ("nofollow", "a link in the place of the manifest is followed", "data/opening.py",
     'getattr(os, "O_NOFOLLOW", 0)', "0", "layout"),
    ("nonblock", "a pipe in the place of the manifest stops the run", "data/opening.py",
     "        if not stat.S_ISREG(kind):", "        if False:", "layout"),
    ("verify-checksum", "`verify` believes an output of the recorded length", "data/audit.py",
     "hexdigest() != row.output_sha256:", "hexdigest() == '':", "audit::a_file_that_is_not_as_recorded"),
    ("decoder-change", "a decoder does not notice that its file changes", "decode/worker.py",
     "if _stat(file) != before:", "if False:", "worker::a_file_that_changes_while_it_is_read_is_refused"),
    ("decoder-process", "a decoder process tells an error as another one", "decode/worker.py",
     'return {"what": _plain(error.what), ', 'return {"what": "cannot be decoded", ',
     "pool::many_threads_get_what_one_process_would_find"),
    ("exit-code", "`python -m jaxstyle` exits with 0 after an error", "cli.py",
     "return told.exit_code", "return EXIT_OK",
     "cli::a_render_on_a_platform_that_jax_does_not_have_exits_1_and_says_so"),
)  # fmt: skip

MUTANTS = [*SOLVERS, *OBJECTIVE, *ENGINE, *LOOK, *REGIONS, *PLANNING, *DATA]

"""Deinterlace the frames of a video that are marked as interlaced (FFmpeg's bwdif), one frame for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import av

from .timed import TimedFrame


def deinterlaced(frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    """The same frames; from the first interlaced one on, each waits for its successor, which the filter compares."""
    for timed in frames:
        if timed.frame.interlaced_frame:
            yield from _filtered(timed, frames)
            return
        yield timed


def _filtered(first: TimedFrame, others: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    graph, waiting, kind = _graph(first.frame), deque([first]), _kind(first.frame)
    graph.push(_at(first.frame, 0))
    for index, timed in enumerate(others, 1):
        if _kind(timed.frame) != kind:  # the size or the pixel format changes
            yield from _drained(graph, waiting)
            yield from deinterlaced(_chained(timed, others))
            return
        waiting.append(timed)
        graph.push(_at(timed.frame, index))
        yield _pulled(graph, waiting.popleft())
    yield from _drained(graph, waiting)


def _chained(first: TimedFrame, others: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    yield first
    yield from others


def _drained(graph: av.filter.Graph, waiting: deque[TimedFrame]) -> Iterator[TimedFrame]:
    graph.push(None)
    while waiting:
        yield _pulled(graph, waiting.popleft())


def _kind(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _at(frame: av.VideoFrame, index: int) -> av.VideoFrame:
    """The frame with its number as its time stamp: the filter needs rising ones."""
    frame.pts, frame.time_base = index, Fraction(1, 1000)
    return frame


def _pulled(graph: av.filter.Graph, timed: TimedFrame) -> TimedFrame:
    return replace(timed, frame=graph.vpull())


def _graph(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph

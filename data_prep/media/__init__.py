"""Decoding of clips, in one place: what a file says of itself, its pictures, its sound."""

from data_prep.media.container import REASONS, ClipError, MediaInfo, probe
from data_prep.media.frames import Frames, frame_times, read_frames
from data_prep.media.sound import Sound, read_audio

DECODING = 2  # rises when the same clip gives other pictures or samples, so that no preparation is resumed across it

__all__ = [
    "DECODING",
    "REASONS",
    "ClipError",
    "Frames",
    "MediaInfo",
    "Sound",
    "frame_times",
    "probe",
    "read_audio",
    "read_frames",
]

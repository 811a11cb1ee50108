"""Decoding of clips, in one place: what a file says of itself, its pictures, its sound."""

from data_prep.media.container import REASONS, ClipError, MediaInfo, probe
from data_prep.media.frames import Frames, frame_times, read_frames
from data_prep.media.sound import Sound, read_audio

__all__ = [
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

"""FFmpeg's WHIP muxer, as PyAV's wheel has it (on GnuTLS, with a certificate that it makes itself): publishes a clip.

Usage: ffmpeg_whip.py WHIP_URL USER_TOKEN VIDEO_FILE AUDIO_FILE SECONDS
Sends the clips' packets as they are (H.264 and Opus), in real time and from the start again at their end, for so many
seconds. Prints `published` once the muxer has its session, and `ended` behind the last packet.
"""

import sys
import time
from fractions import Fraction

import av

OPUS_PACKET = Fraction(1, 50)
FRAME = Fraction(1, 25)


def packets(path: str):
    """The packets of a file's only stream, over and over."""
    while True:
        with av.open(path) as source:
            for packet in source.demux():
                if packet.size:
                    yield packet


def main() -> None:
    url, token, video_path, audio_path, seconds = sys.argv[1:6]
    with av.open(video_path) as video, av.open(audio_path) as audio:
        output = av.open(url, "w", format="whip", options={"authorization": token})
        video_out = output.add_stream_from_template(video.streams.video[0])
        audio_out = output.add_stream_from_template(audio.streams.audio[0])
        video_out.time_base, audio_out.time_base = Fraction(1, 90_000), Fraction(1, 48_000)
    output.start_encoding()
    print("published", flush=True)
    tracks = [
        (video_out, FRAME, packets(video_path)),
        (audio_out, OPUS_PACKET, packets(audio_path)),
    ]
    due = [Fraction(0), Fraction(0)]
    began = time.monotonic()
    while min(due) < int(seconds):
        at = due.index(min(due))
        stream, step, source = tracks[at]
        packet = next(source)
        packet.stream = stream
        packet.time_base = stream.time_base
        packet.pts = packet.dts = int(due[at] / stream.time_base)
        time.sleep(max(0.0, float(due[at]) - (time.monotonic() - began)))
        output.mux(packet)
        due[at] += step
    print("ended", flush=True)
    output.close()


main()

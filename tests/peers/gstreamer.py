"""GStreamer's webrtcbin publishes by plain WHIP, or plays by plain WHEP, with a user token: H.264 and Opus.

Usage: gstreamer.py publish|play ENDPOINT_URL USER_TOKEN SECONDS
Prints `published` once its transport is up, and then stays for so many seconds; or plays until it has decoded a second of
video and of sound, within so many seconds, and prints one JSON object with what it received. Run by Debian's own Python.
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

CONNECT_SECONDS = 15
WANTED = {"video": 25, "audio": 50}

PUBLISH = """
webrtcbin name=rtc bundle-policy=max-bundle
videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=25/1 ! videoconvert
  ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=600 key-int-max=25
  ! video/x-h264,profile=constrained-baseline ! h264parse ! rtph264pay config-interval=-1 aggregate-mode=zero-latency pt=96
  ! application/x-rtp,media=video,encoding-name=H264,payload=96 ! rtc.
audiotestsrc is-live=true ! audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay pt=97
  ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! rtc.
"""

# What becomes of a track that arrives, up to decoded frames.
DECODERS = {
    "video": "rtph264depay ! h264parse ! avdec_h264 ! fakesink name=sink sync=false signal-handoffs=true",
    "audio": "rtpopusdepay ! opusdec ! fakesink name=sink sync=false signal-handoffs=true",
}


def ask(request: urllib.request.Request):
    """Sends a request; who says when to come again is asked again."""
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return urllib.request.urlopen(request, timeout=5)
        except urllib.error.HTTPError as error:
            after = error.headers.get("retry-after")
            if error.code not in (409, 503) or after is None or time.monotonic() > until:
                raise SystemExit(f"{request.full_url}: {error.code} {error.read().decode()}") from error
            time.sleep(float(after))


class Session:
    """One webrtcbin and its WHIP or WHEP session."""

    def __init__(self, action: str, url: str, token: str) -> None:
        self.url, self.token, self.location = url, token, None
        self.loop = GLib.MainLoop()
        self.failure = None
        self.counts = {"video": 0, "audio": 0}
        # Python must keep what webrtcbin's promises refer to.
        self.kept = []
        description = PUBLISH if action == "publish" else "webrtcbin name=rtc bundle-policy=max-bundle"
        self.pipeline = Gst.parse_launch(description)
        if not isinstance(self.pipeline, Gst.Pipeline):
            pipeline = Gst.Pipeline.new("player")
            pipeline.add(self.pipeline)
            self.rtc, self.pipeline = self.pipeline, pipeline
        else:
            self.rtc = self.pipeline.get_by_name("rtc")
        self.rtc.connect("notify::ice-gathering-state", self.gathered)
        self.rtc.connect("notify::connection-state", self.connected)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda _, message: self.fail(str(message.parse_error())))
        if action == "play":
            self.rtc.connect("pad-added", self.track)
            for caps in (
                "application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000,packetization-mode=(string)1,"
                "profile-level-id=(string)42e01f,rtcp-fb-nack=(boolean)true,rtcp-fb-nack-pli=(boolean)true",
                "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2",
            ):
                direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
                self.rtc.emit("add-transceiver", direction, Gst.Caps.from_string(caps))
            self.negotiate(self.rtc)
        else:
            self.rtc.connect("on-negotiation-needed", self.negotiate)

    def negotiate(self, rtc) -> None:
        if self.location is not None or self.kept:
            return
        promise = Gst.Promise.new_with_change_func(self.offered, rtc, None)
        self.kept.append(promise)
        if self.pipeline.get_state(0)[1] == Gst.State.NULL:
            self.pipeline.set_state(Gst.State.PLAYING)
        rtc.emit("create-offer", None, promise)

    def offered(self, promise, rtc, _) -> None:
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self.kept += [reply, offer]
        local = Gst.Promise.new()
        self.kept.append(local)
        rtc.emit("set-local-description", offer, local)
        local.interrupt()

    def gathered(self, rtc, _) -> None:
        if rtc.get_property("ice-gathering-state") != GstWebRTC.WebRTCICEGatheringState.COMPLETE or self.location:
            return
        # webrtcbin waits while we are in its callback: the answer is another turn's.
        GLib.idle_add(self.post)

    def post(self) -> bool:
        if self.location is not None:
            return False
        offer = self.rtc.get_property("local-description").sdp.as_text()
        request = urllib.request.Request(self.url, data=offer.encode(), method="POST")
        request.add_header("content-type", "application/sdp")
        request.add_header("authorization", f"Bearer {self.token}")
        with ask(request) as response:
            self.location = urllib.parse.urljoin(self.url, response.headers["location"])
            answer = response.read().decode()
        _, message = GstSdp.SDPMessage.new_from_text(answer)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        promise = Gst.Promise.new()
        self.kept += [message, description, promise]
        self.rtc.emit("set-remote-description", description, promise)
        return False

    def connected(self, rtc, _) -> None:
        state = rtc.get_property("connection-state")
        if state == GstWebRTC.WebRTCPeerConnectionState.CONNECTED:
            print("connected", file=sys.stderr, flush=True)
            GLib.idle_add(self.up)
        elif state == GstWebRTC.WebRTCPeerConnectionState.FAILED:
            self.fail("the connection failed")

    def up(self) -> bool:
        if self.rtc.get_property("connection-state") == GstWebRTC.WebRTCPeerConnectionState.CONNECTED:
            print("published" if "/whip/" in self.url else "playing", file=sys.stderr if "/whep/" in self.url else sys.stdout, flush=True)
        return False

    def track(self, rtc, pad) -> None:
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        decoder = Gst.parse_bin_from_description(DECODERS[kind], True)
        decoder.get_by_name("sink").connect("handoff", self.frame, kind)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def frame(self, _sink, _buffer, _pad, kind: str) -> None:
        self.counts[kind] += 1
        if all(self.counts[kind] >= wanted for kind, wanted in WANTED.items()):
            GLib.idle_add(self.loop.quit)

    def fail(self, why: str) -> None:
        self.failure = why
        GLib.idle_add(self.loop.quit)

    def run(self, seconds: int) -> None:
        self.pipeline.set_state(Gst.State.PLAYING)
        GLib.timeout_add_seconds(seconds, self.loop.quit)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        if self.location is not None:
            request = urllib.request.Request(self.location, method="DELETE")
            request.add_header("authorization", f"Bearer {self.token}")
            ask(request).close()
        if self.failure is not None:
            raise SystemExit(self.failure)


def main() -> None:
    action, url, token, seconds = sys.argv[1:5]
    Gst.init(None)
    session = Session(action, url, token)
    session.run(int(seconds))
    if action == "play":
        print(json.dumps(session.counts))
        if any(session.counts[kind] < wanted for kind, wanted in WANTED.items()):
            raise SystemExit(f"too little within {seconds} s: {session.counts}")


main()

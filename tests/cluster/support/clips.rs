//! Clips made with ffmpeg, once per build directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::process::output;

/// Frames a second of every clip.
pub const FRAMES_PER_SECOND: u32 = 25;

/// A clip's files: video and audio apart.
pub struct Clip {
    pub video: PathBuf,
    pub audio: PathBuf,
    pub frames: u32,
}

/// What the video is encoded as.
#[derive(Clone, Copy)]
pub enum Video {
    Vp8,
    H264,
}

/// A test picture with a tone, of this length. A keyframe stands once a second, and no frame is reordered.
#[track_caller]
pub fn clip(video: Video, seconds: u32) -> Clip {
    clip_with_keyframes(video, seconds, FRAMES_PER_SECOND)
}

/// The same with a keyframe every so many frames. No file can give one when it is asked: a player that moves to another
/// node sees its picture with the next one.
#[track_caller]
pub fn clip_with_keyframes(video: Video, seconds: u32, every_frames: u32) -> Clip {
    let (name, encoder): (&str, &[&str]) = match video {
        Video::Vp8 => (
            "ivf",
            &[
                "-c:v",
                "libvpx",
                "-b:v",
                "600k",
                "-deadline",
                "realtime",
                "-cpu-used",
                "8",
                "-auto-alt-ref",
                "0",
                "-lag-in-frames",
                "0",
            ],
        ),
        Video::H264 => (
            "h264",
            &[
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-tune",
                "zerolatency",
                "-profile:v",
                "baseline",
                "-b:v",
                "600k",
                "-bsf:v",
                "dump_extra",
            ],
        ),
    };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clips");
    fs::create_dir_all(&directory).expect("the build directory can be written");
    let path = directory.join(format!("{seconds}s-{every_frames}.{name}"));
    let (rate, group) = (FRAMES_PER_SECOND.to_string(), every_frames.to_string());
    let picture = format!("testsrc2=size=320x180:rate={rate}:duration={seconds}");
    make(
        &path,
        &["-f", "lavfi", "-i", &picture, "-g", &group, "-keyint_min", &group, "-pix_fmt", "yuv420p"],
        encoder,
    );
    let audio = directory.join(format!("{seconds}s-stereo.ogg"));
    let tone = format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
    // WebRTC's Opus has two channels (RFC 7587 §7).
    make(&audio, &["-f", "lavfi", "-i", &tone], &["-ac", "2", "-c:a", "libopus", "-b:a", "32k"]);
    Clip { video: path, audio, frames: seconds * FRAMES_PER_SECOND }
}

/// Makes a file unless it is there. Tests run at once: each writes under a name of its own and renames.
#[track_caller]
fn make(path: &Path, input: &[&str], encoder: &[&str]) {
    if path.exists() {
        return;
    }
    let own = path.with_extension(format!(
        "{}.{}",
        std::process::id(),
        path.extension().unwrap_or_default().to_string_lossy()
    ));
    output(Command::new("ffmpeg").args(["-v", "error", "-y"]).args(input).args(encoder).arg(&own));
    fs::rename(&own, path).expect("a file can be renamed in its folder");
}

/// Frames and length that ffprobe counts in a file: (frames, seconds).
#[track_caller]
pub fn probe(path: &Path) -> (u32, f64) {
    let mut command = Command::new("ffprobe");
    command.args([
        "-v",
        "error",
        "-count_frames",
        "-of",
        "json",
        "-show_entries",
        "stream=nb_read_frames:format=duration",
    ]);
    let text = output(command.arg(path));
    let value: serde_json::Value = serde_json::from_str(&text).expect("ffprobe prints JSON");
    let number = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let frames = number(&value["streams"][0]["nb_read_frames"])
        .unwrap_or_else(|| panic!("ffprobe read no frames: {text}"));
    (frames as u32, number(&value["format"]["duration"]).unwrap_or(0.0))
}

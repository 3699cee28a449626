"""Speech synthesis: text and a voice to sound."""

from typing import ClassVar

from pydantic import Field

from xoron_core.contract.modalities.base import MetricInfo, ModalityConfig, ModalityInfo


class TtsConfig(ModalityConfig):
    """Text to speech."""

    info: ClassVar[ModalityInfo] = ModalityInfo(
        name="tts",
        label="Speech synthesis",
        categories=("voice_tts",),
        metrics=(
            MetricInfo(name="tts/loss", label="Mel + waveform", unit="L1"),
            MetricInfo(name="tts/mel_loss", label="Mel spectrogram", unit="L1"),
            MetricInfo(name="tts/waveform_loss", label="Waveform", unit="L1"),
            MetricInfo(name="tts/stft_loss", label="Spectra of the waveform"),
            MetricInfo(name="tts/duration_loss", label="Durations", unit="squared log"),
            MetricInfo(name="tts/pitch_loss", label="Pitch and voicing"),
            MetricInfo(name="tts/energy_loss", label="Energy", unit="MSE"),
            MetricInfo(name="tts/alignment_loss", label="Alignment", unit="nats/frame"),
            MetricInfo(name="tts/shuffled_loss", label="With another's text", unit="L1", better="neither"),
        ),
    )

    loss_weight: float = Field(0.1, ge=0)
    """Factor of its loss in the objective."""
    waveform_loss_weight: float = Field(0.1, ge=0)
    """Factor of the waveform's absolute error in `tts/loss`."""
    stft_loss_weight: float = Field(0.1, ge=0)
    """Factor of the distance of the waveforms' spectra, at several resolutions."""
    duration_loss_weight: float = Field(0.1, ge=0)
    """Factor of the squared error of predicted log durations."""
    pitch_loss_weight: float = Field(0.1, ge=0)
    """Factor of the errors of predicted pitch and voicing."""
    energy_loss_weight: float = Field(0.1, ge=0)
    """Factor of the squared error of predicted energy."""
    alignment_loss_weight: float = Field(1.0, gt=0)
    """Factor of the aligner's loss; without one, nothing would be aligned."""
    max_audio_s: float = Field(20.0, gt=0)
    """Longest recording, in seconds; a longer one is an unreadable row."""
    speaker_reference_rate: float = Field(0.5, ge=0, le=1)
    """Share of the samples that are given a piece of their recording as the voice to imitate."""
    speaker_reference_s: float = Field(2.0, gt=0)
    """Length of that piece, in seconds; a shorter recording is given whole."""
    sample_prompts: tuple[str, ...] = ()
    """Texts that samples speak. The last is spoken in the voice of a held-out recording, where there is one."""

"""What the generated data set can be told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from personsearch.core.recipe import StrictModel

Count = Annotated[int, Field(gt=0)]


class SyntheticSettings(StrictModel):
    """Everything the generated folder depends on: equal settings give equal bytes."""

    seed: Annotated[int, Field(ge=0)] = 0
    frame_wh: tuple[int, int] = Field(default=(384, 224), description="still frames, width and height in pixels")
    train_identities: Count = 160
    test_identities: Count = 40
    passers_by: Count = Field(default=60, description="people without identity, in a split")
    train_cameras: Count = 6
    test_cameras: Annotated[int, Field(ge=2)] = Field(
        default=3, description="other cameras than those of training; the video's is the first of them"
    )
    days: Count = Field(default=3, description="light and movable objects of a camera change from day to day")
    train_frames: Count = 600
    test_frames: Count = 150
    people: tuple[int, int] = Field(default=(3, 5), description="least and most people in a still frame")
    passer_by_share: Annotated[float, Field(ge=0, le=0.9)] = Field(
        default=0.25, description="share of the people in a still frame who have no identity"
    )
    cameras_per_identity: Count = Field(default=4, description="training cameras that see one identity")
    min_visible: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.3, description="a person less visible than this share becomes a region to ignore"
    )
    video_wh: tuple[int, int] = Field(default=(768, 448), description="video frames, width and height in pixels")
    video_frames: Annotated[int, Field(ge=8)] = 160
    video_fps: Annotated[float, Field(gt=0)] = 10.0

    @model_validator(mode="after")
    def _check(self) -> SyntheticSettings:
        if not 1 <= self.people[0] <= self.people[1] <= 12:
            raise ValueError("people must be a range within 1 to 12")
        for name, size in (("frame_wh", self.frame_wh), ("video_wh", self.video_wh)):
            # Codecs with subsampled chroma need even sides; below 64 px nobody would be recognisable.
            if min(size) < 64 or size[0] % 2 or size[1] % 2:
                raise ValueError(f"{name} must be even and at least 64 on each side")
        if self.cameras_per_identity > self.train_cameras:
            raise ValueError("cameras_per_identity is more than train_cameras")
        if self.test_frames < 2 * self.test_cameras:
            raise ValueError("test_frames must be at least two a test camera")
        return self

    def scaled(self, scale: float) -> SyntheticSettings:
        """The same scenes with about ``scale`` times the frames and identities (never below what a search needs)."""
        if not 0.02 <= scale <= 50:
            raise ValueError(f"scale is {scale}, expected 0.02 to 50")

        def times(count: int, least: int) -> int:
            return max(least, round(count * scale))

        return self.model_copy(
            update={
                "train_identities": times(self.train_identities, 4),
                "test_identities": times(self.test_identities, 4),
                "passers_by": times(self.passers_by, 4),
                "train_frames": times(self.train_frames, 2 * self.train_cameras),
                "test_frames": times(self.test_frames, 4 * self.test_cameras),
                "video_frames": max(40, round(self.video_frames * min(scale, 1.0))),
            }
        )

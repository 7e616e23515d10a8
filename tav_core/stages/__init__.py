"""The stages of an edit that are more than one call: what a node runs, and what `ClipEditor` and `run_edit` compose.

The other stages are functions of their own: `video.read_video`, `unet.inflate`, `editing.edit`, `editing.strength`,
`editing.deflicker`, `video.write_video`.
"""

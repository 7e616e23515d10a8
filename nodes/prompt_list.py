"""TAVPromptList: several prompts, one in each line; what comes after runs once for each."""

from comfy_api.v0_0_2 import io

from .sockets import CATEGORY


class PromptList(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVPromptList",
            display_name="Prompt List (Tune-A-Video)",
            category=CATEGORY,
            description="Several prompts, one in each line. CLIP Text Encode, Sample Edit and VAE Decode after it run "
            "once for each; Prompt Grid puts the edits side by side.",
            search_aliases=["prompts", "batch prompts", "string list", "multiline", "several edits"],
            inputs=[
                io.String.Input("prompts", multiline=True, tooltip="A prompt in each line. Empty lines are left out."),
            ],
            outputs=[
                io.String.Output(
                    "prompt", display_name="prompts", is_output_list=True, tooltip="One prompt after the other."
                )
            ],
        )

    @classmethod
    def execute(cls, prompts: str) -> io.NodeOutput:
        lines = [line.strip() for line in prompts.splitlines() if line.strip()]
        if not lines:
            raise ValueError("Prompt List is empty: write a prompt in each line.")
        return io.NodeOutput(lines)

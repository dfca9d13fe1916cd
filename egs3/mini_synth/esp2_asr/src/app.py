"""The page of a packed model: a recording in, its transcript out."""

from pathlib import Path

import gradio
from espnet3.publication.demo.session import load_demo_session

import espnet_ensemble  # noqa: F401, the frontend of the packed model


def build_demo(demo_dir: Path):
    """Make the page.

    Args:
        demo_dir: What the stage ``pack_demo`` has written.
    """
    session = load_demo_session(demo_dir, demo_dir / "demo.yaml")
    infer = session.create_inference_fn(session.input_specs, session.output_specs)
    with gradio.Blocks(title=session.title) as page:
        gradio.Markdown(f"# {session.title}")
        inputs = [session.build_input_component(spec) for spec in session.input_specs]
        button = gradio.Button("Transcribe")
        outputs = [
            session.build_output_component(spec) for spec in session.output_specs
        ]
        button.click(fn=infer, inputs=inputs, outputs=outputs)
    return page


if __name__ == "__main__":
    build_demo(Path(__file__).resolve().parent).launch()

rule capture:
    input:
        [
            f"results/{name}/capture"
            for name in settings.read
            if settings.datasets[name].source == "synthetic"
        ],


rule render_capture:
    """Render photos of synthetic people in GazeCapture's layout."""
    input:
        head=settings.capture.head_model or [],
    output:
        root=directory("results/{dataset}/capture"),
    log:
        "logs/render_capture/{dataset}.log",
    benchmark:
        "benchmarks/rules/render_capture/{dataset}.tsv"
    conda:
        "../envs/main.yaml"
    threads: settings.capture.threads
    resources:
        **asks("render_capture"),
    params:
        capture=lambda wc: settings.capture_of(wc.dataset).model_dump(
            exclude={"head_model", "threads"}
        ),
        seed=settings.seed,
    script:
        "../workflow_scripts/render_capture.py"

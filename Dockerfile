# The project in a container: for CPUs, for NVIDIA's GPUs or for TPUs, as PLATFORM says.
#
# docker build --build-arg PLATFORM=gpu --tag t5x-like:gpu .
# docker run --gpus all --volume "$PWD/runs:/project/runs" t5x-like:gpu \
#   train --gin_file=examples/quickstart_lm.gin --gin.MODEL_DIR=runs/first
ARG PYTHON=3.12
FROM python:${PYTHON}-slim
ARG PLATFORM=cpu

WORKDIR /src
COPY setup.py pyproject.toml README.md LICENSE ./
COPY t5x_like t5x_like
COPY models models
COPY tasks tasks
COPY gin_configs gin_configs
RUN case "$PLATFORM" in \
      cpu) extras=gcs,tokenizers ;; \
      gpu | tpu) extras="$PLATFORM,gcs,tokenizers" ;; \
      *) echo "PLATFORM is $PLATFORM: give cpu, gpu or tpu" >&2; exit 2 ;; \
    esac; \
    pip install --no-cache-dir ".[$extras]"

# Beside the source, so that what is imported is what was installed. As the first process of the
# container the command gets its SIGTERM, and saves.
WORKDIR /project
ENTRYPOINT ["t5x-like"]
CMD ["--help"]

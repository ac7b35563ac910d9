# The programs of this project in a container, for the CPU and NVIDIA GPUs (docker run --gpus all):
#     docker build -t pe-ecg .
#     mkdir -p runs cache
#     docker run --rm --user "$(id -u)" -v "$PWD/ecgs:/ecgs" -v "$PWD/runs:/app/runs" -v "$PWD/cache:/app/cache" \
#         pe-ecg train_atten.py --data-dir /ecgs
# For the CPU alone it is several GB smaller, with the package index of PyTorch's CPU build, whose address is on
# PyTorch's page of installation:
#     docker build -t pe-ecg:cpu --build-arg TORCH_INDEX=ADDRESS .
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

ARG TORCH_INDEX=""

WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} -r requirements.txt
COPY . .
# Whoever runs it may write the demo cohort, the cache and the runs
RUN python -m compileall -q . && install -d -m 1777 runs cache && chmod 1777 /app
USER 1000
ENV PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["python"]
CMD ["train_atten.py", "--help"]

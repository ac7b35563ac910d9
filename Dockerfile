# The programs of this project in a container. On the CPU:
#     docker build -t pe-ecg .
#     docker run --rm --user "$(id -u)" -v "$PWD/ecgs:/ecgs" -v "$PWD/runs:/app/runs" pe-ecg train_atten.py --data-dir /ecgs
# On an NVIDIA GPU (with docker run --gpus all), with PyTorch's CUDA build of PyPI:
#     docker build -t pe-ecg:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# pip prefers 2.13.0+cpu of this index to 2.13.0 of PyPI: 0.2 GB in place of several
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" -r requirements.txt
COPY . .
# Whoever runs it may write the demo cohort, the cache and the runs
RUN python -m compileall -q . && install -d -m 1777 runs cache && chmod 1777 /app
USER 1000
ENV PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["python"]
CMD ["train_atten.py", "--help"]

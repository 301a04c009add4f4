# The server, `folio serve`, for a run that is mounted at /run:
#
#     docker build -t folio .
#     docker run -p 127.0.0.1:8000:8000 -v ./runs/demo/grpo:/run:ro folio
#
# That answers whoever is on this machine. For others, with keys (a file that only you
# can read, so the server has to be you):
#
#     docker run -p 8000:8000 -v ./runs/demo/grpo:/run:ro -v ./keys:/keys:ro \
#         --user "$(id -u)" folio folio serve /run --host 0.0.0.0 --key-file /keys
#
# Torch comes without CUDA, everything else at the versions that constraints.txt pins.
# This file is kept simple because it is not built by the project's own checks.
FROM python:3.11-slim

RUN useradd --create-home folio
WORKDIR /home/folio/source

# First what changes rarely: a change of the sources doesn't install torch again.
COPY constraints.txt .
RUN pip install --no-cache-dir --constraint constraints.txt \
        --index-url https://download.pytorch.org/whl/cpu \
        --extra-index-url https://pypi.org/simple torch numpy

COPY pyproject.toml README.md LICENSE LICENSE-book ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt ".[serve]"

USER folio
WORKDIR /home/folio
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["folio", "serve", "/run", "--host", "0.0.0.0", "--port", "8000"]

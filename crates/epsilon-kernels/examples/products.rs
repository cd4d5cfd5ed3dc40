//! Times products with packed weights in every arithmetic that `EPSILON_CPU` lets through, the encoding of their left side
//! included: `products [THREADS]` prints the level, then for each shape and arithmetic the fastest run in milliseconds.

use std::time::Instant;

use epsilon_kernels::cpu;
use epsilon_kernels::finish::After;
use epsilon_kernels::linear::{Arithmetic, Encoded, LinearMap, stride};
use epsilon_kernels::packed::Rows;

/// Rows, inputs and outputs: eight images of 197 tokens through the maps of ViT-B/16, and eight rows alone.
const SHAPES: [[usize; 3]; 5] = [
    [1576, 768, 3072],
    [1576, 3072, 768],
    [1576, 768, 2304],
    [1576, 192, 768],
    [8, 768, 3072],
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads: usize = std::env::args().nth(1).map_or(Ok(1), |n| n.parse())?;
    println!("{}", cpu::level()?);
    for [rows, inputs, outputs] in SHAPES {
        let wave =
            |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.37).sin()).collect() };
        let apart = stride(inputs);
        let (x, weight, bias) = (wave(rows * apart), wave(inputs * outputs), wave(outputs));
        for arithmetic in Arithmetic::all() {
            let map = LinearMap::new(&weight, &bias, arithmetic);
            let mut out = vec![0.0; rows * outputs];
            let mut seconds = Vec::new();
            while seconds.len() < 4 || (seconds.len() < 200 && seconds.iter().sum::<f64>() < 0.3) {
                let start = Instant::now();
                let part = rows.div_ceil(threads);
                std::thread::scope(|scope| {
                    for (x, out) in x.chunks(part * apart).zip(out.chunks_mut(part * outputs)) {
                        let map = &map;
                        scope.spawn(move || {
                            let (mut encoded, count) = (Encoded::default(), out.len() / outputs);
                            let x = Rows {
                                data: x,
                                stride: apart,
                                count,
                            };
                            let x = encoded.encode(arithmetic, x, inputs);
                            map.apply(x, After::Store, out, outputs);
                        });
                    }
                });
                seconds.push(start.elapsed().as_secs_f64());
            }
            seconds.sort_by(f64::total_cmp);
            let name = match arithmetic {
                Arithmetic::F32 => "f32",
                Arithmetic::Bf16(_) => "bf16",
                Arithmetic::Int8(_) => "int8",
            };
            println!("{rows}x{inputs}x{outputs}\t{name}\t{:.4}", 1e3 * seconds[0]);
        }
    }
    Ok(())
}

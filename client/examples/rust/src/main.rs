//! Sends golden requests to a Headlight server and compares its answers: attend ADDRESS FILE...
use std::{env, error::Error, fs, process::ExitCode, time::Duration};

use headlight::attention_service_client::AttentionServiceClient;
use headlight::{tensor::Data, weight_map::Form, AttendRequest, AttendResponse, Tensor};
use serde::Deserialize;
use tonic::{transport::Channel, Code, Request, Status};
use tonic_types::StatusExt;

mod headlight {
    #![allow(clippy::all)]
    tonic::include_proto!("headlight.v1");
    include!(concat!(env!("OUT_DIR"), "/headlight.v1.serde.rs"));
}

#[derive(Deserialize)]
struct Golden {
    name: String,
    request: AttendRequest,
    expected: Option<AttendResponse>,
    #[serde(default)]
    tolerance: f32,
    error: Option<Refusal>,
}

#[derive(Deserialize, PartialEq, Debug)]
struct Refusal {
    code: String,
    fields: Vec<String>,
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    match &tensor.data {
        Some(Data::F32Values(floats)) => floats.values.clone(),
        Some(Data::F32Le(bytes)) => bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        // The upper half of a float32.
        Some(Data::Bf16Le(bytes)) => bytes.chunks(2).map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])).collect(),
        _ => Vec::new(),
    }
}

fn tensors(answer: &AttendResponse) -> Vec<&Tensor> {
    let weights = answer.maps.iter().filter_map(|map| match &map.form {
        Some(Form::Weights(tensor)) => Some(tensor),
        _ => None,
    });
    let whole = [&answer.output, &answer.log_sum_exp, &answer.head_outputs];
    whole.into_iter().flatten().chain(weights).collect()
}

fn is_close(got: &Tensor, want: &Tensor, tolerance: f32) -> bool {
    let (a, b) = (numbers(got), numbers(want));
    let close = |(x, y): (&f32, &f32)| x == y || (x - y).abs() <= tolerance;
    got.shape == want.shape && a.len() == b.len() && a.iter().zip(&b).all(close)
}

fn answered(answer: &AttendResponse, golden: &Golden) -> bool {
    let got = tensors(answer);
    let want = golden.expected.as_ref().map(tensors).unwrap_or_default();
    println!("{}: {} tensors, the first of shape {:?}", golden.name, got.len(), got[0].shape);
    got.len() == want.len() && got.iter().zip(&want).all(|(g, w)| is_close(g, w, golden.tolerance))
}

fn refused(status: &Status, golden: &Golden) -> bool {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let code = match status.code() {
        Code::InvalidArgument => "INVALID_ARGUMENT".to_string(),
        other => format!("{other:?}"),
    };
    let fields = violations.into_iter().map(|violation| violation.field).collect();
    let refusal = Some(Refusal { code, fields });
    println!("{}: {refusal:?}", golden.name);
    refusal == golden.error
}

async fn check(client: &mut AttentionServiceClient<Channel>, file: &str) -> Result<bool, Box<dyn Error>> {
    let golden: Golden = serde_json::from_slice(&fs::read(file)?)?;
    let mut request = Request::new(golden.request.clone());
    request.set_timeout(Duration::from_secs(10));
    Ok(match client.attend(request).await {
        Ok(answer) => answered(answer.get_ref(), &golden),
        Err(status) => refused(&status, &golden),
    })
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().ok_or("attend ADDRESS FILE...")?;
    let mut client = AttentionServiceClient::connect(format!("http://{address}"))
        .await?
        .max_decoding_message_size(256 << 20); // tonic's own limit is 4 MiB
    let (mut files, mut passed) = (0, 0);
    for file in arguments {
        files += 1;
        passed += usize::from(check(&mut client, &file).await?);
    }
    let good = passed == files && passed > 0;
    println!("golden check {}: {passed} of {files}", if good { "passed" } else { "failed" });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
